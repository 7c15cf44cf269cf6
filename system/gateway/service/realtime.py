"""Everything WebSocket that is not bytes: members, rooms, messages, events, sessions (4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from system.gateway.domain import messages, rooms
from system.gateway.domain.frames import (
    CloseCode,
    Closed,
    Opcode,
    Ping,
    Pong,
    Received,
    Text,
    encode,
)
from system.gateway.domain.lifetime import Due, Lifetime
from system.gateway.domain.limits import MessageRate
from system.gateway.domain.messages import ClientMessage
from system.gateway.ports import (
    Authentication,
    BridgedEvent,
    Outlet,
    PaymentParties,
    Sessions,
)
from system.platform.http.errors import ApiError
from system.platform.observability import metrics, tracing
from system.platform.security.principal import Principal

log = logging.getLogger(__name__)

CONNECTIONS_PER_USER: Final = 20  # R4.5
SESSION_REVOKED: Final = "session revoked"
TOKEN_EXPIRED: Final = "token expired"
SHUTTING_DOWN: Final = "Server shutting down"
# R4.25 allows 5 s with the broker down; the sweep itself and the verifier's memory need the rest.
RECHECK_S: Final = 3.0
_RECHECKS_AT_ONCE: Final = 32
# Revocations kept for handshakes whose session check was answered a moment before.
_REVOKED_KEPT: Final = 10_000
_KNOWN_CODES: Final = frozenset(int(code) for code in CloseCode)


class TooManyConnections(Exception):
    """The user has as many connections on this process as R4.5 allows."""


class Member:
    """One open connection and what is known about its owner.

    Attributes:
        principal: of the token that counts at present.
        outlet: the sending side.
        lifetime: its deadlines.
        open: False from the moment a close was decided.
    """

    __slots__ = (
        "inbox",
        "lifetime",
        "open",
        "outlet",
        "principal",
        "rate",
        "timer",
        "worker",
    )

    def __init__(self, principal: Principal, outlet: Outlet, lifetime: Lifetime) -> None:
        self.principal = principal
        self.outlet = outlet
        self.lifetime = lifetime
        self.rate = MessageRate()
        self.open = True
        self.timer: asyncio.TimerHandle | None = None
        self.inbox: deque[ClientMessage] = deque()
        self.worker: asyncio.Task[None] | None = None


class RealtimeService:
    """The members of this process, and what reaches them.

    Args:
        authentication: judges tokens of `reauth`.
        sessions: says whether sessions are still open.
        parties: says who may enter a payment's room.
        forget_session: told of each revocation, so that no cached "open" outlives it.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        authentication: Authentication,
        sessions: Sessions,
        parties: PaymentParties,
        *,
        forget_session: Callable[[str], None] = lambda _: None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._authentication = authentication
        self._sessions = sessions
        self._parties = parties
        self._forget_session = forget_session
        self._wall_clock = wall_clock
        self._rooms: rooms.Rooms[Member] = rooms.Rooms()
        self._members: dict[Member, None] = {}
        self._sessions_of: dict[str, dict[Member, None]] = {}
        self._slots: dict[str, int] = {}
        self._revoked: dict[str, None] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._counters: dict[tuple[str, str], Any] = {}

    # Opening and ending

    def start(self) -> None:
        """Begin to look at sessions again and again."""
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_forever())

    async def close(self) -> None:
        """Say goodbye to all (R4.30) and stop looking at sessions."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        for member in list(self._members):
            self._end(member, CloseCode.GOING_AWAY, SHUTTING_DOWN)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._members)

    def revoked(self, session_id: str) -> bool:
        """Whether an event has told that this session is over."""
        return session_id in self._revoked

    def reserve(self, user_id: str) -> None:
        """Take one of the user's places before the handshake is answered; `release` gives it back.

        Raises:
            TooManyConnections: R4.5.
        """
        taken = self._slots.get(user_id, 0)
        if taken >= CONNECTIONS_PER_USER:
            raise TooManyConnections
        self._slots[user_id] = taken + 1

    def release(self, user_id: str) -> None:
        """Give a place back."""
        left = self._slots.get(user_id, 1) - 1
        if left:
            self._slots[user_id] = left
        else:
            self._slots.pop(user_id, None)

    def enter(self, principal: Principal, outlet: Outlet) -> Member:
        """Let a new connection in: its rooms, its deadlines, its first message (R4.8)."""
        member = Member(
            principal, outlet, Lifetime(self._now(), self._steady(principal.claims.expires_at))
        )
        self._members[member] = None
        self._sessions_of.setdefault(principal.session_id, {})[member] = None
        for room in rooms.automatic_rooms(principal.user_id, principal.role):
            self._rooms.join(member, room)
        metrics.WEBSOCKET_CONNECTIONS.inc()
        self._tell(
            member,
            "connected",
            {
                "userId": principal.user_id,
                "rooms": list(self._rooms.rooms_of(member)),
                "expiresAt": messages.iso(principal.claims.expires_at),
            },
        )
        if self.revoked(principal.session_id):
            # The event overtook the handshake, whose check was answered just before it.
            self._end(member, CloseCode.UNAUTHORIZED, SESSION_REVOKED)
        else:
            self._tick(member)
        return member

    def left(self, member: Member, code: int) -> None:
        """The connection is over, whoever ended it.

        Args:
            member: it hears nothing from now on.
            code: close code, 1006 if there was none.
        """
        self._forget(member)
        if member.worker is not None:
            member.worker.cancel()
        label = str(code) if code in _KNOWN_CODES else metrics.OTHER
        metrics.WEBSOCKET_CLOSED_TOTAL.labels(label).inc()

    def _end(self, member: Member, code: CloseCode, reason: str) -> None:
        """Close, and deliver nothing from this moment."""
        if member.open:
            self._forget(member)
            member.outlet.close(code, reason)

    def _forget(self, member: Member) -> None:
        if member not in self._members:
            return
        member.open = False
        del self._members[member]
        self._rooms.leave_all(member)
        self._leave_session(member)
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        metrics.WEBSOCKET_CONNECTIONS.dec()

    def _leave_session(self, member: Member) -> None:
        session = member.principal.session_id
        members = self._sessions_of.get(session)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._sessions_of[session]

    # What clients say

    def receive(self, member: Member, received: Received) -> None:
        """Take what the client sent; the caller handles its close and its violations."""
        if not member.open:
            return
        match received:
            case Pong():
                member.lifetime.pong()
            case Ping(payload):
                if self._within_rate(member):
                    member.outlet.send(encode(Opcode.PONG, payload))
            case Text(text):
                if self._within_rate(member):
                    self._read(member, text)
            case Closed():
                self._forget(member)
            case _:
                self._forget(member)

    def _within_rate(self, member: Member) -> bool:
        if not member.rate.exceeded(self._now()):
            return True
        self._refuse(member, messages.RATE_LIMIT_EXCEEDED)
        self._end(member, CloseCode.POLICY_VIOLATION, "rate limit exceeded")
        return False

    def _read(self, member: Member, text: str) -> None:
        message = messages.read(text)
        if message is None:
            self._count("in", metrics.OTHER)
            self._refuse(member, messages.INVALID_MESSAGE)
            return
        known = message.type in messages.CLIENT_TYPES
        self._count("in", message.type if known else metrics.OTHER)
        if not known:
            return  # R4.16
        if member.worker is None and message.type in ("ping", "unsubscribe"):
            self._at_once(member, message)
            return
        # One after the other, so that what a client asks last is what holds.
        member.inbox.append(message)
        if member.worker is None:
            member.worker = asyncio.create_task(self._work(member))

    async def _work(self, member: Member) -> None:
        try:
            while member.inbox and member.open:
                message = member.inbox.popleft()
                if message.type == "subscribe":
                    await self._subscribe(member, message)
                elif message.type == "reauth":
                    await self._reauthenticate(member, message)
                else:
                    self._at_once(member, message)
        except Exception:
            log.exception("a WebSocket message could not be handled")
        finally:
            member.worker = None

    def _at_once(self, member: Member, message: ClientMessage) -> None:
        if message.type == "ping":
            self._tell(member, "pong", None, message.id)
            return
        room = rooms.read_room(message.payload.get("room"))
        if room is None:
            self._refuse(member, messages.INVALID_ROOM, message.id)
            return
        self._rooms.leave(member, room.name)
        self._tell(member, "unsubscribed", {"room": room.name}, message.id)

    async def _subscribe(self, member: Member, message: ClientMessage) -> None:
        room = rooms.read_room(message.payload.get("room"))
        if room is None:
            self._refuse(member, messages.INVALID_ROOM, message.id)
            return
        if not self._rooms.has(member, room.name):
            refusal = await self._judge_room(member, room)
            if not member.open:
                return
            if refusal is not None:
                self._refuse(member, refusal, message.id)
                return
            self._rooms.join(member, room.name)
        self._tell(member, "subscribed", {"room": room.name}, message.id)

    async def _judge_room(self, member: Member, room: rooms.Room) -> tuple[str, str] | None:
        """Why the member may not enter, or None (R4.17-R4.21)."""
        principal = member.principal
        if room.kind is not rooms.RoomKind.PAYMENT:
            own = rooms.automatic_rooms(principal.user_id, principal.role)
            return None if room.name in own else messages.ROOM_FORBIDDEN
        joined = sum(name.startswith("payment:") for name in self._rooms.rooms_of(member))
        if joined >= rooms.PAYMENT_ROOM_LIMIT:
            return messages.TOO_MANY_ROOMS
        # Asked for an ADMIN too: an unknown payment has no room.
        parties = await self._parties.of(room.key)
        if parties is None:
            return messages.ROOM_FORBIDDEN
        allowed = member.principal.role == "ADMIN" or member.principal.user_id in (
            parties.sender_id,
            parties.recipient_id,
        )
        return None if allowed else messages.ROOM_FORBIDDEN

    async def _reauthenticate(self, member: Member, message: ClientMessage) -> None:
        """Let another token of the same user count (R4.12)."""
        token = message.payload.get("token")
        try:
            principal = await self._authentication.authenticate_token(
                token if isinstance(token, str) else ""
            )
        except ApiError as error:
            if member.open:
                self._refuse(member, (error.code, error.message), message.id)
            return
        if not member.open:
            return
        if principal.user_id != member.principal.user_id:
            self._refuse(member, ("TOKEN_INVALID", "Token of another user"), message.id)
            return
        if self.revoked(principal.session_id):
            self._refuse(member, ("TOKEN_REVOKED", "Session is revoked"), message.id)
            return
        self._leave_session(member)
        if principal.role != member.principal.role:
            # What the old role opened is closed; the client asks again for what it still may see.
            self._rooms.leave_all(member)
            for room in rooms.automatic_rooms(principal.user_id, principal.role):
                self._rooms.join(member, room)
        member.principal = principal
        self._sessions_of.setdefault(principal.session_id, {})[member] = None
        member.lifetime.renew(self._steady(principal.claims.expires_at))
        self._tell(
            member,
            "reauthenticated",
            {"expiresAt": messages.iso(principal.claims.expires_at)},
            message.id,
        )
        self._tick(member)

    # What the members hear

    def deliver(self, event: BridgedEvent) -> None:
        """Bring an event to everyone it concerns, each at most once (R4.23)."""
        known = rooms.parties_of_event(event.type, event.data)
        if known is not None:
            self._evict(*known)
        members = self._rooms.members_of(rooms.rooms_of_event(event.type, event.data))
        if members:
            frame = messages.write_event(
                event.type, event.id, event.correlation_id, event.timestamp, event.data
            )
            span = tracing.child(f"websocket {event.type}", tracing.Kind.PRODUCER)
            tracing.describe(span, {"websocket.recipients": len(members)})
            with tracing.within(span):
                for member in members:
                    member.outlet.send(frame)
            self._count("out", "event", len(members))
        if event.type == "session.revoked":
            session = event.data.get("sessionId")
            if isinstance(session, str):
                self._revoke(session)

    def _evict(self, payment_id: str, parties: frozenset[str]) -> None:
        """Take those out of a payment's room who are no party to it (R4.22)."""
        room = rooms.payment_room(payment_id)
        for member in self._rooms.members_of((room,)):
            principal = member.principal
            if principal.role != "ADMIN" and principal.user_id not in parties:
                self._rooms.leave(member, room)

    def _revoke(self, session_id: str) -> None:
        """The session is over: its connections too (R4.25)."""
        self._revoked.pop(session_id, None)
        while len(self._revoked) >= _REVOKED_KEPT:
            del self._revoked[next(iter(self._revoked))]
        self._revoked[session_id] = None
        self._forget_session(session_id)
        self._end_session(session_id)

    def _end_session(self, session_id: str) -> None:
        for member in list(self._sessions_of.get(session_id, ())):
            self._end(member, CloseCode.UNAUTHORIZED, SESSION_REVOKED)

    def _tell(
        self, member: Member, kind: str, payload: dict[str, Any] | None, reply_to: str | None = None
    ) -> None:
        member.outlet.send(
            messages.write(kind, payload, messages.iso(self._wall_clock()), reply_to)
        )
        self._count("out", kind)

    def _refuse(self, member: Member, error: tuple[str, str], reply_to: str | None = None) -> None:
        member.outlet.send(messages.write_error(error, messages.iso(self._wall_clock()), reply_to))
        self._count("out", "error")

    def _count(self, direction: str, kind: str, by: int = 1) -> None:
        counter = self._counters.get((direction, kind))
        if counter is None:
            counter = metrics.WEBSOCKET_MESSAGES_TOTAL.labels(direction, kind)
            self._counters[direction, kind] = counter
        counter.inc(by)

    # Time

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _steady(self, moment_s: float) -> float:
        """A moment of the wall clock on the loop's clock."""
        return self._now() + moment_s - self._wall_clock()

    def _tick(self, member: Member) -> None:
        """Do what is due and set the timer for what comes next."""
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        for due in member.lifetime.due(self._now()):
            match due:
                case Due.PING:
                    member.outlet.send(encode(Opcode.PING))
                case Due.WARN:
                    self._tell(
                        member,
                        "token_expiring",
                        {"expiresAt": messages.iso(member.principal.claims.expires_at)},
                    )
                case Due.EXPIRE:
                    self._end(member, CloseCode.UNAUTHORIZED, TOKEN_EXPIRED)
                case Due.TERMINATE:
                    self._forget(member)
                    member.outlet.abort()
        if member.open:
            member.timer = asyncio.get_running_loop().call_at(
                member.lifetime.next(), self._tick, member
            )

    async def _sweep_forever(self) -> None:
        """Look at every session again and again, for revocations that no event told of (R4.25)."""
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                await self._sweep()
            except Exception:
                log.exception("open sessions could not be looked at; trying again")

    async def _sweep(self) -> None:
        claims = [
            next(iter(members)).principal.claims for members in list(self._sessions_of.values())
        ]
        gate = asyncio.Semaphore(_RECHECKS_AT_ONCE)

        async def look(claim: Any) -> None:
            async with gate:
                try:
                    await self._sessions.ensure_open(claim)
                except ApiError as error:
                    # 503: nobody can say, and nothing says that it is over.
                    if error.status == 401:
                        self._end_session(claim.session_id)

        looks: list[Coroutine[Any, Any, None]] = [look(claim) for claim in claims]
        await asyncio.gather(*looks)
