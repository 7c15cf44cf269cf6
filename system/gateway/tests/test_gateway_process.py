"""The gateway as a process: starts with everything down, ends in order (R0.10, R0.11, R0.14)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from system.gateway.tests.stand_ins import free_port
from system.platform.security.tokens import (
    KeyRing,
    TokenType,
    environment_keys,
    issue_access,
)

PROJECT = Path(__file__).parents[3]
SECRET = "a-good-enough-signing-key-of-some-length"


def environment(port: int, services: int) -> dict[str, str]:
    """Configuration with Redis and broker nowhere and all services at one port."""
    nowhere = free_port()
    return {
        **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")},
        "PATH": os.defpath,
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "API_GATEWAY_PORT": str(port),
        "AUTH_SERVICE_URL": f"http://127.0.0.1:{services}",
        "PAYMENTS_SERVICE_URL": f"http://127.0.0.1:{services}",
        "ADMIN_SERVICE_URL": f"http://127.0.0.1:{services}",
        "PROFILE_SERVICE_URL": f"http://127.0.0.1:{services}",
        "REDIS_URL": f"redis://127.0.0.1:{nowhere}",
        "RABBITMQ_URL": f"amqp://a:b@127.0.0.1:{nowhere}",
        "JWT_SECRET": SECRET,
        "OTEL_ENABLED": "false",
    }


@contextlib.asynccontextmanager
async def process(variables: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running gateway; killed if it is still there at the end."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "system.gateway",
        env=variables,
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def answers(session: aiohttp.ClientSession, url: str, seconds: float = 30) -> None:
    """Wait until somebody answers."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.05)


async def _auth_service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every session is open, payments wait until `go`; of keys it has none to give."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status = b"200 OK"
            if b"/internal/sessions/" in head:
                sid = head.split()[1].rpartition(b"/")[2].decode()
                body = json.dumps(
                    {"success": True, "data": {"id": sid, "userId": sid, "open": True}}
                ).encode()
            elif b" /payments " in head:
                _asked.set()
                await _go.wait()
                body = b"{}"
            else:
                status, body = b"404 Not Found", b"{}"
            writer.write(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )
    writer.close()


_asked, _go = asyncio.Event(), asyncio.Event()


def _token() -> str:
    ring = KeyRing({TokenType.ACCESS: environment_keys(None, SECRET)})
    someone = "11111111-1111-4111-8111-111111111111"
    return issue_access(
        ring,
        user_id=someone,
        email="a@x.test",
        name="A",
        role="CUSTOMER",
        session_id=someone,
        lifetime=900,
    )


async def test_it_starts_with_everything_down() -> None:
    """R0.10, R1.56: alive, not ready, and protected routes are 503 as long as nobody can judge."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with process(environment(port, free_port())), aiohttp.ClientSession() as session:
        await answers(session, f"{url}/health")
        async with session.get(f"{url}/health/ready") as answer:
            assert answer.status == 503
            checks = (await answer.json())["error"]["details"]["checks"]
        assert set(checks) == {
            "redis",
            "rabbitmq",
            "authService",
            "paymentsService",
            "adminService",
            "profileService",
        }
        assert {check["status"] for check in checks.values()} == {"down"}
        headers = {"Authorization": f"Bearer {_token()}"}
        async with session.get(f"{url}/api/payments", headers=headers) as answer:
            assert answer.status == 503
        async with session.post(f"{url}/api/auth/login", json={}) as answer:
            assert answer.status == 502


async def test_it_finishes_what_is_under_way() -> None:
    """R0.11: on SIGTERM the request in flight is answered, WebSockets get 1001, exit code 0."""
    _asked.clear()
    _go.clear()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = await asyncio.start_server(_auth_service, "127.0.0.1", 0)
    services = service.sockets[0].getsockname()[1]
    headers = {"Authorization": f"Bearer {_token()}"}
    async with (
        process(environment(port, services)) as running,
        aiohttp.ClientSession() as session,
    ):
        await answers(session, f"{url}/health")
        socket = await session.ws_connect(f"{url}/ws", protocols=("bearer", _token()))
        assert (await socket.receive_json(timeout=5))["type"] == "connected"
        request = asyncio.create_task(session.get(f"{url}/api/payments", headers=headers))
        async with asyncio.timeout(10):
            await _asked.wait()
        running.send_signal(signal.SIGTERM)
        message = await socket.receive(timeout=5)
        assert (message.data, message.extra) == (1001, "Server shutting down")
        await socket.close()
        assert not request.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{url}/health")
        _go.set()
        assert (await request).status == 200
        async with asyncio.timeout(10):
            assert await running.wait() == 0
        assert running.stdout is not None
        log = (await running.stdout.read()).decode()
    service.close()
    lines = [json.loads(line) for line in log.splitlines()]
    assert all(line["service"] == "api-gateway" for line in lines)
    assert _token()[:40] not in log
    assert "Traceback" not in log


async def test_a_kept_connection_is_answered_once_more() -> None:
    """R0.11: a request that was on its way at SIGTERM succeeds, and its answer asks to close."""
    port = free_port()
    async with process(environment(port, free_port())) as running:
        async with aiohttp.ClientSession() as session:
            await answers(session, f"http://127.0.0.1:{port}/health")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> bytes:
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            return head.lower()

        assert b"connection: close" not in await ask()
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while await accepts(port):  # noqa: ASYNC110 - another process tells no event
                await asyncio.sleep(0.02)
            answer = await ask()
            assert answer.startswith(b"http/1.1 200")
            assert b"connection: close" in answer
            assert await reader.read() == b""
            writer.close()
            assert await running.wait() == 0


async def test_a_socket_is_not_opened_at_the_end() -> None:
    """R4.30, R1.14: a handshake on a kept connection is 503, and the client goes elsewhere."""
    port = free_port()
    async with process(environment(port, free_port())) as running:
        async with aiohttp.ClientSession() as session:
            await answers(session, f"http://127.0.0.1:{port}/health")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while await accepts(port):  # noqa: ASYNC110 - another process tells no event
                await asyncio.sleep(0.02)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            answer = await reader.read()
            assert b"HTTP/1.1 503" in answer
            assert b"SERVICE_UNAVAILABLE" in answer
            writer.close()
            assert await running.wait() == 0


async def accepts(port: int) -> bool:
    """Whether a new connection is taken."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_a_bad_configuration_is_refused() -> None:
    """R0.14: exit code other than 0, naming the variable."""
    port = free_port()
    variables = environment(port, free_port()) | {"NODE_ENV": "production"}
    async with process(variables) as running:
        output, _ = await running.communicate()
    assert running.returncode not in (0, None)
    assert b"INTERNAL_SERVICE_TOKEN" in output
