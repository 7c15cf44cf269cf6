"""The hive: all sockets of a swarm in one event loop, and what can be asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from picows import WSCloseCode, WSError, WSHandshakeError, ws_connect

from loadtests.engine.health import HealthWatch
from loadtests.engine.sockets import Way, allow_open_files, client_tls, connected_socket, look_up
from loadtests.swarm.client import ClientRecord, Message, Payload, SwarmListener
from loadtests.swarm.plan import SwarmPlan

_BUFFER = 1024  # bytes a socket keeps for reading; it grows for a longer message


class SeenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as the first socket that got it saw it."""

    event_id: str
    event_type: str
    correlation_id: str
    timestamp: str


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """Who must have received what.

    Attributes:
        key: the event's correlation id or event id.
        users: whose sockets must get it; None for all.
    """

    key: str
    users: tuple[str, ...] | None = None


class Hive:
    """Holds the sockets.

    Args:
        plan: who connects where.
    """

    def __init__(self, plan: SwarmPlan) -> None:
        self._plan = plan
        addresses = plan.addresses or ("",)
        self.records = [
            ClientRecord(user=client.user, address=addresses[number % len(addresses)])
            for number, client in enumerate(plan.clients)
        ]
        self._listeners: list[SwarmListener] = []
        self._events: dict[str, int] = {}
        self._seen: list[SeenEvent] = []
        self._changed = asyncio.Event()
        self._health = HealthWatch()

    async def connect(self) -> None:
        """Open all sockets at the plan's rate; ends when each is welcomed or will not be."""
        allow_open_files(len(self.records) + 64)
        self._health.start()
        split = self._plan.split_url
        host = split.hostname or ""
        try:
            way = await look_up(host, self._plan.port, self._plan.addresses)
        except OSError as error:
            for record in self.records:
                record.error = f"{type(error).__name__}: {error}"
            return
        tls = client_tls(self._plan.ca) if split.scheme == "wss" else None
        began = time.monotonic()
        tasks = []
        for number in range(len(self.records)):
            pause = began + number / self._plan.connect_rate - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(self._connect_one(number, way, tls)))
        await asyncio.gather(*tasks)
        await self._wait(
            lambda: all(r.welcomed is not None for r in self.records if r.is_open),
            self._plan.connect_timeout,
        )

    async def _connect_one(self, number: int, way: Way, tls: Any) -> None:
        record = self.records[number]
        listener = SwarmListener(record, self._number_of, self._changed.set)
        try:
            async with asyncio.timeout(self._plan.connect_timeout):
                sock = await connected_socket(way, record.address or None)
                await ws_connect(
                    lambda: listener,
                    self._plan.url,
                    ssl_context=tls,
                    socket_factory=lambda url: sock,
                    websocket_handshake_timeout=self._plan.connect_timeout,
                    extra_headers={
                        "Sec-WebSocket-Protocol": f"bearer, {self._plan.clients[number].token}"
                    },
                    enable_auto_pong=False,  # answered and counted by the listener
                    read_buffer_init_size=_BUFFER,
                    max_redirects=0,
                )
        except WSHandshakeError as error:
            record.status = int(error.response.status) if error.response is not None else 0
            record.code = _error_code(error.raw_body)
            record.error = f"{type(error).__name__}: {error}"
        except (OSError, WSError, TimeoutError) as error:
            record.error = f"{type(error).__name__}: {error}"
        else:
            self._listeners.append(listener)

    def _number_of(self, message: Message, payload: Payload) -> int:
        number = self._events.setdefault(payload.eventId, len(self._events))
        if number == len(self._seen):
            self._seen.append(
                SeenEvent(
                    event_id=payload.eventId,
                    event_type=payload.eventType,
                    correlation_id=payload.correlationId,
                    timestamp=message.timestamp,
                )
            )
        return number

    async def expect(self, expectations: Sequence[Expectation], within: float) -> dict[str, int]:
        """Wait until every open socket has what it must have, at most so many seconds.

        Returns:
            How many deliveries were ``expected`` and ``received`` in the end. A socket that is
            not open is expected to receive as well, so a lost one is a lost delivery.
        """
        wanted = self._wanted(expectations)

        def received() -> int:
            have = self._keys_by_client()
            return sum(len(keys & have[number]) for number, keys in enumerate(wanted))

        expected = sum(len(keys) for keys in wanted)
        await self._wait(lambda: received() >= expected, within)
        return {"expected": expected, "received": received()}

    def _wanted(self, expectations: Sequence[Expectation]) -> list[set[str]]:
        wanted: list[set[str]] = [set() for _ in self.records]
        for expectation in expectations:
            users = None if expectation.users is None else set(expectation.users)
            for number, record in enumerate(self.records):
                if users is None or record.user in users:
                    wanted[number].add(expectation.key)
        return wanted

    def _keys_by_client(self) -> list[set[str]]:
        names = [(event.event_id, event.correlation_id) for event in self._seen]
        return [
            {name for number, _ in record.events for name in names[number]}
            for record in self.records
        ]

    async def ping(self, within: float) -> dict[str, int]:
        """Ping every open socket; how many were ``asked`` and ``answered`` within the seconds."""
        now = time.monotonic()
        before = {}
        for listener in self._listeners:
            if listener.record.is_open and listener.transport is not None:
                before[id(listener.record)] = (listener.record, len(listener.record.pongs))
                listener.record.asked.append(now)
                listener.transport.send_ping(b"swarm")

        def answered() -> int:
            return sum(len(record.pongs) > count for record, count in before.values())

        await self._wait(lambda: answered() >= len(before), within)
        return {"asked": len(before), "answered": answered()}

    def status(self) -> dict[str, Any]:
        """Counts as they are now."""
        failed: dict[str, int] = {}
        for record in self.records:
            if record.opened is None:
                reason = f"{record.status} {record.code}".strip() if record.status else record.error
                failed[reason or "not tried"] = failed.get(reason or "not tried", 0) + 1
        return {
            "clients": len(self.records),
            "open": sum(record.is_open for record in self.records),
            "welcomed": sum(record.welcomed is not None for record in self.records),
            "events": sum(len(record.events) for record in self.records),
            "failed": failed,
        }

    async def finish(self) -> None:
        """Close what is open with 1000, and wait a moment for the answers."""
        for listener in self._listeners:
            if listener.record.is_open and listener.transport is not None:
                listener.record.closed_by_us = True
                listener.transport.send_close(WSCloseCode.OK)
        await self._wait(lambda: not any(r.is_open for r in self.records), 5.0)
        for listener in self._listeners:
            if listener.record.is_open and listener.transport is not None:
                listener.transport.disconnect(graceful=False)
        with contextlib.suppress(RuntimeError):
            self._health.stop()

    def evidence(self) -> dict[str, Any]:
        """Everything that was seen, JSON-able."""
        return {
            "url": self._plan.url,
            "clock": "seconds of the system's monotonic clock",
            "clients": [msgspec.to_builtins(record) for record in self.records],
            "events": [msgspec.to_builtins(event) for event in self._seen],
            "generator": {
                "cpu_share": round(self._health.cpu_share, 4),
                "cpu_share_worst": round(self._health.cpu_share_worst, 4),
                "lag_ms": self._health.lag_ms(),
            },
        }

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition, looking after every change; False when the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
            # A broadcast changes a thousand sockets; look again when they had time to read.
            await asyncio.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
        return True


def _error_code(body: bytes | None) -> str:
    """``error.code`` of a refusal's body; empty when it is not the contract's envelope."""
    try:
        document = msgspec.json.decode(body or b"")
        return str(document["error"]["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
