"""R0.13, R1.133, R1.137, R1.142, R1.153: what admin-service says to auth-service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from system.admin.adapters.auth_service import AuthService
from system.admin.adapters.probes import HttpProbes
from system.admin.domain.users import Role
from system.admin.ports import Actor
from system.admin.service.health import PROBE_TIMEOUT_S
from system.admin.tests.fakes import a_user
from system.platform.http.errors import ApiError
from system.platform.observability import correlation
from system.platform.observability.correlation import RequestContext

ACTOR = Actor(a_user(1).id, "203.0.113.7", "Mözilla".encode().decode("latin-1"))
ANN = a_user(2)
SHOWN = {
    "id": ANN.id,
    "email": ANN.email,
    "name": ANN.name,
    "role": ANN.role,
    "status": ANN.status,
    "emailVerified": False,
    "version": 1,
    "createdAt": "2026-01-17T10:00:00.000Z",
    "updatedAt": "2026-01-17T10:00:00.000Z",
}


class Answering:
    """An HTTP server that gives one answer to everything and remembers what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.hangs = False
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append(
            (request.method, request.raw_path, dict(request.headers), await request.read())
        )
        if self.hangs:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=self.status, body=self.body, content_type="application/json")


@pytest.fixture
async def there() -> AsyncIterator[Answering]:
    made = Answering()
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
async def accounts(there: Answering) -> AsyncIterator[AuthService]:
    made = AuthService([there.url], "internal-token")
    yield made
    await made.close()


def free_url() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def as_json(data: object) -> bytes:
    return msgspec.json.encode({"success": True, "data": data})


async def test_a_command_says_who_acts(there: Answering, accounts: AuthService) -> None:
    """R1.142: the actor, the actor's address and agent, the correlation id."""
    there.body = as_json(SHOWN)
    token = correlation.bind(RequestContext("c-1", traceparent="00-a-b-01"))
    try:
        user = await accounts.set_role(ACTOR, ANN.id, Role.CUSTOMER)
    finally:
        correlation.unbind(token)

    assert user == ANN
    [(method, path, headers, body)] = there.seen
    assert (method, path) == ("PUT", f"/internal/users/{ANN.id}/role")
    assert body == b'{"role":"CUSTOMER"}'
    wanted = {
        "X-Internal-Token": "internal-token",
        "X-Actor-Id": ACTOR.id,
        "X-Actor-IP": "203.0.113.7",
        "X-Actor-User-Agent": "Mözilla",
        "X-Correlation-ID": "c-1",
        "traceparent": "00-a-b-01",
    }
    assert {name: headers[name] for name in wanted} == wanted


async def test_every_command_has_its_route(there: Answering, accounts: AuthService) -> None:
    """1.14: methods, paths and bodies."""
    there.body = as_json(SHOWN)
    await accounts.create(ACTOR, email="a@x.test", password="p", name="A", role=Role.ADMIN)
    await accounts.change(ACTOR, ANN.id, {"name": "A"})
    await accounts.set_active(ACTOR, ANN.id, False, "why")
    await accounts.set_active(ACTOR, ANN.id, True, None)
    there.status, there.body = 204, b""
    await accounts.delete(ACTOR, ANN.id)

    one = f"/internal/users/{ANN.id}"
    assert [(method, path, body) for method, path, _, body in there.seen] == [
        (
            "POST",
            "/internal/users",
            b'{"email":"a@x.test","password":"p","name":"A","role":"ADMIN"}',
        ),
        ("PATCH", one, b'{"name":"A"}'),
        ("PUT", one + "/status", b'{"isActive":false,"reason":"why"}'),
        ("PUT", one + "/status", b'{"isActive":true}'),
        ("DELETE", one, b""),
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "CANNOT_DELETE_LAST_ADMIN"),
        (403, "CANNOT_MODIFY_SELF"),
        (404, "USER_NOT_FOUND"),
        (409, "EMAIL_ALREADY_EXISTS"),
        (400, "VALIDATION_ERROR"),
    ],
)
async def test_refusals_are_passed_on(
    there: Answering, accounts: AuthService, status: int, code: str
) -> None:
    """R1.135: in auth-service's own words."""
    there.status = status
    there.body = b'{"success":false,"error":{"code":"%s","message":"m"}}' % code.encode()

    with pytest.raises(ApiError) as refused:
        await accounts.delete(ACTOR, ANN.id)

    assert (refused.value.status, refused.value.code, refused.value.message) == (status, code, "m")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"success":false,"error":{"code":"UNAUTHORIZED","message":"m"}}'),
        (403, b'{"success":false,"error":{"code":"FORBIDDEN","message":"m"}}'),
        (404, b'{"success":false,"error":{"code":"NOT_FOUND","message":"m"}}'),
        (404, b"<html>"),
        (500, b'{"success":false,"error":{"code":"INTERNAL_ERROR","message":"m"}}'),
        (503, b'{"success":false,"error":{"code":"SERVICE_UNAVAILABLE","message":"m"}}'),
        (200, b"{}"),
        (200, b"not json"),
    ],
)
async def test_everything_else_is_503(
    there: Answering, accounts: AuthService, status: int, body: bytes
) -> None:
    """R1.137, R1.14: trouble between services is not the caller's."""
    there.status, there.body = status, body

    with pytest.raises(ApiError) as refused:
        await accounts.set_role(ACTOR, ANN.id, Role.ADMIN)

    assert (refused.value.status, refused.value.code) == (503, "SERVICE_UNAVAILABLE")
    assert "Retry-After" in refused.value.headers


async def test_another_instance_only_when_one_refuses(there: Answering) -> None:
    """R0.13: no command is given twice."""
    there.body = as_json(SHOWN)
    both = AuthService([free_url(), there.url], "t")
    try:
        for _ in range(4):
            await both.change(ACTOR, ANN.id, {"name": "A"})
        assert len(there.seen) == 4
        there.hangs = True
        with pytest.raises(ApiError) as refused:
            await both.change(ACTOR, ANN.id, {"name": "A"})
    finally:
        await both.close()

    assert refused.value.status == 503
    assert len(there.seen) == 5


async def test_nobody_there(there: Answering) -> None:
    """R1.137: 503 at once."""
    nobody = AuthService([free_url()], "t")
    try:
        with pytest.raises(ApiError) as refused:
            await nobody.delete(ACTOR, ANN.id)
    finally:
        await nobody.close()

    assert refused.value.status == 503


async def test_pages_and_single_accounts(there: Answering, accounts: AuthService) -> None:
    """R1.134: what reconciliation asks."""
    there.body = as_json([SHOWN])
    assert await accounts.page(None) == [ANN]
    assert await accounts.page(ANN.id) == [ANN]
    there.body = as_json(SHOWN)
    assert await accounts.find(ANN.id) == ANN
    there.status = 404
    there.body = b'{"success":false,"error":{"code":"USER_NOT_FOUND","message":"m"}}'
    assert await accounts.find(ANN.id) is None

    assert [path for _, path, _, _ in there.seen[:2]] == [
        "/internal/users?limit=1000",
        f"/internal/users?limit=1000&after={ANN.id}",
    ]
    assert "X-Actor-Id" not in there.seen[0][2]


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
async def test_a_process_is_asked_whether_it_is_ready(
    there: Answering, status: int, ready: bool
) -> None:
    """R1.143: one ready instance is enough; one that refuses is not ready."""
    there.status = status
    probes = HttpProbes()
    try:
        assert await probes.is_ready([there.url]) is ready
        assert await probes.is_ready([free_url(), there.url]) is ready
        assert await probes.is_ready([free_url()]) is False
    finally:
        await probes.close()

    assert {path for _, path, _, _ in there.seen} == {"/health/ready"}


async def test_an_instance_that_hangs_does_not_hide_one_that_is_ready(there: Answering) -> None:
    """R1.143: and the probe does not wait for it."""
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    hanging = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hanging.sockets[0].getsockname()[1]}"
    probes = HttpProbes()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S / 2):
            ready = await probes.is_ready([url, there.url])
        await asked.wait()
    finally:
        await probes.close()
        hanging.close()

    assert ready is True
