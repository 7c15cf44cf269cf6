"""Who hears what over WebSocket: rooms, who may enter them, where an event goes (4.3, 4.4)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

ROOM_LENGTH_LIMIT: Final = 128  # characters, R4.21
PAYMENT_ROOM_LIMIT: Final = 100  # on one connection, R4.21
BROADCAST: Final = "broadcast"
ADMINS: Final = "role:admin"

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ROLES: Final = frozenset({"admin", "customer", "vendor"})


class RoomKind(StrEnum):
    """The four forms of a room's name."""

    USER = "user"
    ROLE = "role"
    BROADCAST = "broadcast"
    PAYMENT = "payment"


@dataclass(frozen=True, slots=True)
class Room:
    """A room a client named.

    Attributes:
        name: as in messages, `payment:<uuid>`.
        kind: its form.
        key: what follows the colon; empty for `broadcast`.
    """

    name: str
    kind: RoomKind
    key: str


def read_room(name: object) -> Room | None:
    """Read a room's name; None for everything that is INVALID_ROOM (R4.21)."""
    if not isinstance(name, str) or len(name) > ROOM_LENGTH_LIMIT:
        return None
    if name == BROADCAST:
        return Room(name, RoomKind.BROADCAST, "")
    kind, _, key = name.partition(":")
    if kind in ("user", "payment") and _UUID.fullmatch(key):
        return Room(name, RoomKind(kind), key)
    if kind == "role" and key in _ROLES:
        return Room(name, RoomKind.ROLE, key)
    return None


def user_room(user_id: str) -> str:
    """The room of one user (R4.17)."""
    return f"user:{user_id}"


def role_room(role: str) -> str:
    """The room of one role, given as in tokens (R4.18)."""
    return f"role:{role.lower()}"


def payment_room(payment_id: str) -> str:
    """The room of one payment (R4.20)."""
    return f"payment:{payment_id}"


def automatic_rooms(user_id: str, role: str) -> tuple[str, str, str]:
    """The rooms a connection is in from the start (R4.17-R4.19)."""
    return (user_room(user_id), role_room(role), BROADCAST)


# R4.23. Each entry names the data fields that make rooms, and whether administrators hear it.
_PAYMENT_TYPES: Final = frozenset(
    f"payment.{verb}" for verb in ("created", "updated", "completed", "failed", "cancelled")
)
_USER_AND_ADMIN: Final = frozenset(
    {
        "user.created",
        "user.updated",
        "user.role_changed",
        "user.status_changed",
        "user.deleted",
        "user.login",
        "user.logout",
        "user.password_changed",
    }
)
_ADMIN_ONLY: Final = frozenset(
    {"user.login_failed", "user.locked", "user.unlocked", "secrets.rotated"}
)
_USER_ONLY: Final = frozenset({"session.revoked", "token.reuse_detected", "profile.updated"})


def rooms_of_event(event_type: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Where an event is delivered; nowhere for a type or data that cannot be routed (R4.24)."""
    if event_type in _PAYMENT_TYPES:
        sender, recipient, payment = (
            _text(data, "senderId"),
            _text(data, "recipientId"),
            _text(data, "paymentId"),
        )
        if not (sender and recipient and payment):
            return ()
        return (user_room(sender), user_room(recipient), payment_room(payment), ADMINS)
    if event_type in _ADMIN_ONLY:
        return (ADMINS,)
    if event_type == "config.updated":
        key = _text(data, "key")
        return (ADMINS, BROADCAST) if key.startswith("public.") else (ADMINS,)
    user = _text(data, "userId")
    if not user:
        return ()
    if event_type in _USER_AND_ADMIN:
        return (user_room(user), ADMINS)
    if event_type in _USER_ONLY:
        return (user_room(user),)
    return ()


def parties_of_event(event_type: str, data: Mapping[str, Any]) -> tuple[str, frozenset[str]] | None:
    """Payment and parties that a payment event tells of, else None.

    Whoever else sits in the payment's room is no party any more and leaves it before this event
    (R4.22); every payment event says it, so a missed one does no harm.
    """
    if event_type not in _PAYMENT_TYPES:
        return None
    payment = _text(data, "paymentId")
    parties = frozenset({_text(data, "senderId"), _text(data, "recipientId")})
    if not payment or "" in parties:
        return None
    return payment, parties


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


M = TypeVar("M", bound=Hashable)


class Rooms(Generic[M]):
    """Membership, both ways; an empty room takes no memory."""

    def __init__(self) -> None:
        self._members: dict[str, dict[M, None]] = {}
        self._rooms: dict[M, dict[str, None]] = {}

    def join(self, member: M, room: str) -> None:
        """Put the member into the room; once is enough."""
        self._members.setdefault(room, {})[member] = None
        self._rooms.setdefault(member, {})[room] = None

    def leave(self, member: M, room: str) -> None:
        """Take the member out of the room, if it is there."""
        members = self._members.get(room)
        if members is None or member not in members:
            return
        del members[member]
        if not members:
            del self._members[room]
        rooms = self._rooms[member]
        del rooms[room]
        if not rooms:
            del self._rooms[member]

    def leave_all(self, member: M) -> None:
        """Take the member out of every room."""
        for room in list(self._rooms.get(member, ())):
            self.leave(member, room)

    def rooms_of(self, member: M) -> tuple[str, ...]:
        """The member's rooms in the order of joining."""
        return tuple(self._rooms.get(member, ()))

    def members_of(self, rooms: Iterable[str]) -> list[M]:
        """Everyone in at least one of the rooms, each once (R4.23)."""
        found: dict[M, None] = {}
        for room in rooms:
            found.update(self._members.get(room, {}))
        return list(found)

    def has(self, member: M, room: str) -> bool:
        """Whether the member is in the room."""
        return member in self._members.get(room, ())

    def count(self) -> int:
        """Rooms with at least one member."""
        return len(self._members)
