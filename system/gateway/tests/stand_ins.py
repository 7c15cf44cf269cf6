"""Working stand-ins for what surrounds the gateway, and a gateway over them on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from system.gateway.adapters.upstream import Upstream
from system.gateway.domain.limits import Admission, Quota, admit, quota
from system.gateway.domain.routes import RouteTable, Service
from system.gateway.entrypoints.http import GatewayServer, HttpEntry, make_server
from system.gateway.entrypoints.websocket import WebSocketEntry
from system.gateway.ports import BridgedEvent, Parties
from system.gateway.service.admission import AdmissionService, Exemptions
from system.gateway.service.realtime import RealtimeService
from system.platform.http import errors
from system.platform.http.health import Health
from system.platform.security.principal import Principal
from system.platform.security.tokens import Claims, TokenType

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
CAROL = "33333333-3333-4333-8333-333333333333"
ADMIN = "44444444-4444-4444-8444-444444444444"
PAYMENT = "99999999-9999-4999-8999-999999999999"
ORIGIN = "https://localhost"


def principal(
    user_id: str = ALICE,
    role: str = "CUSTOMER",
    session_id: str | None = None,
    expires_in: float = 900,
) -> Principal:
    """Somebody whose token is good for so many seconds."""
    session_id = session_id or f"session-of-{user_id}"
    now = int(time.time())
    claims = Claims(
        user_id=user_id,
        email="a@x.test",
        name="A",
        role=role,
        session_id=session_id,
        token_id="t",
        type=TokenType.ACCESS,
        issued_at=now,
        expires_at=int(now + expires_in),
    )
    return Principal(user_id, "a@x.test", "A", role, session_id, claims)


@dataclass
class FakeAuthentication:
    """Knows tokens by name; implements `Authentication` and `Sessions`."""

    tokens: dict[str, Principal] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    down: bool = False
    asked: int = 0

    async def authenticate(self, authorization_header: str | None) -> Principal:
        """See the port."""
        scheme, _, token = (authorization_header or "").partition(" ")
        if scheme.lower() != "bearer":
            raise errors.unauthorized()
        return await self.authenticate_token(token)

    async def authenticate_token(self, token: str) -> Principal:
        """See the port."""
        self.asked += 1
        if token in self.expired:
            raise errors.token_expired()
        if token not in self.tokens:
            raise errors.token_invalid()
        found = self.tokens[token]
        await self.ensure_open(found.claims)
        return found

    async def ensure_open(self, claims: Claims) -> None:
        """See the port."""
        if self.down:
            raise errors.service_unavailable()
        if claims.session_id in self.revoked:
            raise errors.token_revoked()


@dataclass
class FakeGeneralLimiter:
    """Counts in memory; None as limit lets everything pass uncounted."""

    limit: int | None = None
    used: dict[str, int] = field(default_factory=dict)

    async def count(self, address: str) -> Quota | None:
        """See the port."""
        if self.limit is None:
            return None
        self.used[address] = self.used.get(address, 0) + 1
        return quota(self.limit, 900_000, self.used[address], 60_000)


@dataclass
class FakeCredentialLimiter:
    """The real arithmetic in memory."""

    full_until: dict[str, float] = field(default_factory=dict)

    async def admit(self, address: str) -> Admission:
        """See the port."""
        judged = admit(self.full_until.get(address, 0.0), time.time())
        self.full_until[address] = judged.full_until_s
        return judged


@dataclass
class FakeParties:
    """Knows payments by id."""

    known: dict[str, Parties] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def of(self, payment_id: str) -> Parties | None:
        """See the port."""
        self.asked.append(payment_id)
        answer = self.known.get(payment_id)
        if self.gate is not None:
            await self.gate.wait()
        return answer


def event(type: str, data: Mapping[str, Any], number: int = 1) -> BridgedEvent:
    """An event as the bridge hands it over."""
    return BridgedEvent(
        id=f"00000000-0000-4000-8000-{number:012d}",
        type=type,
        timestamp="2026-01-17T10:00:00.000Z",
        correlation_id="corr-1",
        data=data,
    )


def payment_event(
    type: str = "payment.completed", sender: str = ALICE, recipient: str = BOB, number: int = 1
) -> BridgedEvent:
    """An event of the payment PAYMENT."""
    return event(
        type,
        {
            "paymentId": PAYMENT,
            "senderId": sender,
            "recipientId": recipient,
            "amount": "100.50",
            "currency": "USD",
            "status": "completed",
        },
        number,
    )


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        await asyncio.sleep(0.005)


@dataclass
class Running:
    """A gateway on a real socket, over stand-ins."""

    port: int
    server: GatewayServer
    entry: HttpEntry
    authentication: FakeAuthentication
    general: FakeGeneralLimiter
    credential: FakeCredentialLimiter
    parties: FakeParties
    realtime: RealtimeService
    checks: dict[str, bool]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def running_gateway(
    services: Mapping[Service, list[str]] | str,
    *,
    timeout_s: float = 2.0,
    source_address: str | None = None,
    trusted: frozenset[str] = frozenset(),
    exempt: tuple[str, ...] = (),
) -> AsyncIterator[Running]:
    """A gateway before these services; one URL stands for all four."""
    if isinstance(services, str):
        services = {service: [services] for service in Service}
    authentication = FakeAuthentication(
        tokens={
            "alice": principal(),
            "bob": principal(BOB),
            "carol": principal(CAROL, "VENDOR"),
            "admin": principal(ADMIN, "ADMIN"),
        },
        expired={"expired"},
    )
    upstreams = {
        service: Upstream(service, urls, timeout_s=timeout_s, source_address=source_address)
        for service, urls in services.items()
    }
    general, credential, parties = FakeGeneralLimiter(), FakeCredentialLimiter(), FakeParties()
    realtime = RealtimeService(authentication, authentication, parties)
    checks = {"redis": True, "authService": True}

    def check(name: str) -> Callable[[], Awaitable[bool]]:
        async def answer() -> bool:
            return checks[name]

        return answer

    entry = HttpEntry(
        table=RouteTable(),
        upstreams=upstreams,
        admission=AdmissionService(
            authentication,
            general,
            credential,
            Exemptions([ip_network(network) for network in exempt]),
        ),
        websocket=WebSocketEntry(authentication, realtime),
        health=Health("api-gateway", {name: check(name) for name in checks}, {"authService"}),
        trusted_proxies=trusted,
        cors_origins=frozenset({ORIGIN}),
    )
    server = make_server(entry)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    realtime.start()
    try:
        yield Running(
            port,
            server,
            entry,
            authentication,
            general,
            credential,
            parties,
            realtime,
            checks,
        )
    finally:
        listener.close()
        await realtime.close()
        server.pre_shutdown()
        await server.shutdown(0.5)
        for upstream in upstreams.values():
            upstream.close()


@dataclass
class Seen:
    """A request as a stand-in service saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: str

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class EchoService:
    """A service that answers everything with what it saw."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = web.Server(self._handle, auto_decompress=False, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(
            self._server, "127.0.0.1", port
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop, idle connections included."""
        assert self._listener is not None
        assert self._server is not None
        self._listener.close()
        await self._server.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.answer is not None:
            return await self.answer(request)
        body = await request.read()
        self.seen.append(
            Seen(
                request.method,
                request.raw_path,
                [(k.decode(), v.decode("latin-1")) for k, v in request.raw_headers],
                body,
                request.remote or "",
            )
        )
        return web.json_response({"success": True, "data": {"target": request.raw_path}})


@contextlib.asynccontextmanager
async def echo_service() -> AsyncIterator[EchoService]:
    """A running EchoService."""
    service = EchoService()
    await service.start()
    try:
        yield service
    finally:
        await service.close()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw_service(talk: Talk) -> AsyncIterator[int]:
    """A server that does with each connection what the test says; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """The bytes up to the blank line."""
    return await reader.readuntil(b"\r\n\r\n")
