"""The proxy over real sockets: streaming, aborts, time limits, nothing twice (1.8, R1.10-R1.13)."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest
from aiohttp import web

from system.gateway.adapters import upstream_instance
from system.gateway.domain.routes import Service
from system.gateway.tests.stand_ins import (
    EchoService,
    Running,
    echo_service,
    free_port,
    raw_service,
    read_head,
    running_gateway,
    until,
)

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Client:
    """A client that says exactly what the test wants; `close_clients` closes what is left open."""

    opened: ClassVar[list[Client]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.opened.append(self)

    @classmethod
    async def connect(cls, gateway: Running, source: str | None = None) -> Client:
        """Open a connection to the gateway."""
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1",
                gateway.port,
                local_addr=(source, 0) if source else None,
                limit=MIB,
            )
        )

    def send(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
        version: str = "1.1",
        token: str | None = "alice",
    ) -> None:
        """Send a request head, and body if given."""
        lines = [f"{method} {target} HTTP/{version}", "Host: public.test"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        pairs = headers.items() if isinstance(headers, dict) else headers or ()
        lines += [f"{name}: {value}" for name, value in pairs]
        self.writer.write("\r\n".join((*lines, "", "")).encode() + body)

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Read a response head."""
        async with asyncio.timeout(10):
            text = (await read_head(self.reader)).decode("latin-1")
        status, *lines = text.split("\r\n")
        pairs = [line.split(": ", 1) for line in lines if line]
        return int(status.split()[1]), [(name, value) for name, value in pairs]

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body."""
        async with asyncio.timeout(10):
            size = int((await self.reader.readline()).strip(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            return data

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read a whole response; header names in lower case, repeated ones joined."""
        status, pairs = await self.head()
        headers: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        async with asyncio.timeout(10):
            if status in (204, 304):
                body = b""
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                body = b""
                while data := await self.chunk():
                    body += data
            else:
                body = await self.reader.read()
        return status, headers, body

    async def ask(self, *args: Any, **named: Any) -> tuple[int, dict[str, str], bytes]:
        """Send and read."""
        self.send(*args, **named)
        return await self.answer()

    def close(self) -> None:
        """Go away without waiting."""
        self.writer.transport.abort()


@pytest.fixture(autouse=True)
async def close_clients() -> AsyncIterator[None]:
    """Nothing a test opened outlives it."""
    yield
    while Client.opened:
        Client.opened.pop().close()


@pytest.fixture
async def service() -> AsyncIterator[EchoService]:
    """A stand-in for all four services."""
    async with echo_service() as running:
        yield running


@pytest.fixture
async def gateway(service: EchoService) -> AsyncIterator[Running]:
    """A gateway before it."""
    async with running_gateway(service.url) as running:
        yield running


@pytest.fixture
async def client(gateway: Running) -> AsyncIterator[Client]:
    """A connection to it."""
    connected = await Client.connect(gateway)
    yield connected
    connected.close()


def code(body: bytes) -> str:
    """The error code of an answer."""
    parsed = json.loads(body)
    assert parsed["success"] is False
    found: str = parsed["error"]["code"]
    return found


# What goes through


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/api/payments", "/payments"),
        ("/api/payments?page=2&sort=a%20b&x=%2F&x=", "/payments?page=2&sort=a%20b&x=%2F&x="),
        ("/api/payments?", "/payments?"),
        ("/api//payments/./recipients", "/payments/recipients"),
        ("/%61pi/payments/reports", "/payments/reports"),
        ("/api/payments/a%20b", "/payments/a%20b"),
        ("/api/payments/%2525", "/payments/%2525"),
        ("/api/payments/a%3fb", "/payments/a%3Fb"),
        ("/api/profile", "/api/profile"),
        ("http://elsewhere.test/api/profile?a=b", "/api/profile?a=b"),
    ],
)
async def test_paths_and_queries_arrive(
    service: EchoService, client: Client, target: str, seen: str
) -> None:
    """The service sees the normal form that was routed by, and the query untouched."""
    status, _, _ = await client.ask("GET", target)
    assert status == 200
    assert service.seen[0].target == seen


@pytest.mark.parametrize(
    "target",
    [
        "/api/auth/internal/users",
        "/api/auth/%69nternal/users",
        "/api/payments/..%2fauth/internal/users",
        "/api/payments/%2e%2e/%2e%2e/internal/users",
        "//internal/users",
        "/api/auth//health",
        "/api/payments/metrics",
        "/api/payments/health",
        "/internal",
        "/api/health",
        "/api/%zz",
        "/api/auth/internal?x=/api/auth/me",
    ],
)
async def test_hidden_paths_never_reach_a_service(
    service: EchoService, client: Client, target: str
) -> None:
    """404 in the form of R1.11, with and without a token, and nothing is contacted (R1.50)."""
    for token in ("alice", None):
        status, _, body = await client.ask("GET", target, token=token)
        assert (status, code(body)) == (404, "NOT_FOUND")
        assert json.loads(body)["error"]["message"] == (
            f"Route GET {target.partition('?')[0]} not found"
        )
    assert service.seen == []


async def test_headers_cross_cleanly(service: EchoService, client: Client) -> None:
    """R1.52: forged forwarding and internal headers go, repeated ones stay, ours are there once."""
    await client.ask(
        "GET",
        "/api/payments",
        [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Internal-Token", "stolen"),
            ("X-Actor-Id", "forged"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("Connection", "keep-alive, X-Private"),
            ("X-Private", "1"),
            ("TE", "trailers"),
            ("X-Correlation-ID", "my-id"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ],
    )
    seen = service.seen[0]
    assert seen.header("Host") == [f"127.0.0.1:{service.port}"]
    assert seen.header("X-Forwarded-For") == ["127.0.0.1"]
    assert seen.header("X-Real-IP") == ["127.0.0.1"]
    assert seen.header("X-Forwarded-Proto") == ["http"]
    assert seen.header("X-Forwarded-Host") == ["public.test"]
    assert seen.header("X-Twice") == ["1", "2"]
    assert seen.header("X-Correlation-ID") == ["my-id"]
    assert seen.header("Authorization") == ["Bearer alice"]
    assert seen.header("traceparent") == ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
    for name in ("Forwarded", "X-Internal-Token", "X-Actor-Id", "X-Private", "TE", "Connection"):
        assert seen.header(name) == [], name


async def test_a_trusted_proxy_names_client_scheme_and_host(service: EchoService) -> None:
    """R1.40: only from TRUSTED_PROXIES, and then the last entry that is not trusted itself."""
    trusted = frozenset({"127.0.0.250"})
    async with running_gateway(
        service.url, trusted=trusted, source_address="127.0.0.251"
    ) as gateway:
        forwarded = [
            ("X-Forwarded-For", "9.9.9.9, ::ffff:203.0.113.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "pay.test:8443"),
        ]
        for source in ("127.0.0.250", "127.0.0.5"):
            client = await Client.connect(gateway, source)
            await client.ask("GET", "/api/payments", forwarded)
            client.close()
    believed, ignored = service.seen
    assert believed.header("X-Forwarded-For") == ["203.0.113.7"]
    assert believed.header("X-Forwarded-Proto") == ["https"]
    assert believed.header("X-Forwarded-Host") == ["pay.test:8443"]
    assert ignored.header("X-Forwarded-For") == ["127.0.0.5"]
    assert ignored.header("X-Forwarded-Proto") == ["http"]
    assert ignored.header("X-Forwarded-Host") == ["public.test"]
    assert {seen.peer for seen in service.seen} == {"127.0.0.251"}


async def test_answers_pass_unchanged(gateway: Running, service: EchoService) -> None:
    """Status, repeated headers and body; no framework's name; correlation and no-store once."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=409, body=b'{"a":1}', content_type="application/json")
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        response.headers["X-Powered-By"] = "x"
        response.headers["X-Cache"] = "HIT"
        response.headers["X-Correlation-ID"] = "another"
        return response

    service.answer = answer
    client = await Client.connect(gateway)
    client.send("GET", "/api/payments", {"X-Correlation-ID": "mine"})
    status, pairs = await client.head()
    names = [name.lower() for name, _ in pairs]
    assert status == 409
    assert [value for name, value in pairs if name == "Set-Cookie"] == ["a=1", "b=2"]
    assert ("X-Correlation-ID", "mine") in pairs
    assert ("Server", "gateway") in pairs
    assert ("X-Cache", "HIT") in pairs
    assert "x-powered-by" not in names
    for name in ("x-correlation-id", "cache-control", "server", "date", "content-length"):
        assert names.count(name) == 1, name
    assert await client.reader.readexactly(7) == b'{"a":1}'
    client.close()


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_body_have_none(
    gateway: Running, service: EchoService, status: int
) -> None:
    """R1.3; the connection goes on."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    service.answer = answer
    client = await Client.connect(gateway)
    for _ in range(2):
        seen, headers, _ = await client.ask("GET", "/api/payments")
        assert seen == status
        assert "transfer-encoding" not in headers
    client.close()


# Streaming


@pytest.mark.parametrize("framing", ["sized", "chunked", "until-close"])
async def test_responses_stream(framing: str) -> None:
    """The client has the first half before the service has sent the second."""
    go = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
        if framing == "sized":
            writer.write(b"Content-Length: 10\r\n\r\nfirst")
        elif framing == "chunked":
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        else:
            writer.write(b"Connection: close\r\n\r\nfirst")
        await go.wait()
        writer.write(b"5\r\nlast!\r\n0\r\n\r\n" if framing == "chunked" else b"last!")
        await writer.drain()

    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        client.send("GET", "/api/payments")
        status, pairs = await client.head()
        headers = {name.lower(): value for name, value in pairs}
        assert status == 200
        assert headers["date"].endswith("GMT")
        assert headers["cache-control"] == "no-store"
        if framing == "sized":
            assert headers["content-length"] == "10"
            assert await client.reader.readexactly(5) == b"first"
            go.set()
            assert await client.reader.readexactly(5) == b"last!"
        else:
            assert headers["transfer-encoding"] == "chunked"
            assert await client.chunk() == b"first"
            go.set()
            assert await client.chunk() == b"last!"
            assert await client.chunk() == b""
        client.close()


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_requests_stream(framing: str) -> None:
    """The service has the first half before the client has sent the second."""
    first, whole = asyncio.Event(), asyncio.Event()
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        await reader.readuntil(b"first")
        first.set()
        await reader.readuntil(b"last!" if framing == "sized" else b"0\r\n\r\n")
        whole.set()
        writer.write(OK)

    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        if framing == "sized":
            client.send("POST", "/api/payments", {"Content-Length": "10"}, b"first")
        else:
            client.send(
                "POST", "/api/payments", {"Transfer-Encoding": "chunked"}, b"5\r\nfirst\r\n"
            )
        async with asyncio.timeout(5):
            await first.wait()
        assert not whole.is_set()
        client.writer.write(b"last!" if framing == "sized" else b"5\r\nlast!\r\n0\r\n\r\n")
        assert (await client.answer())[0] == 200
        expected = b"content-length: 10" if framing == "sized" else b"transfer-encoding: chunked"
        assert expected in heads[0].lower()
        client.close()


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_eight_mebibytes_pass_with_flat_memory(framing: str, direction: str) -> None:
    """The other side pauses for a moment: what the gateway holds meanwhile stays small."""
    size, piece = 8 * MIB, b"x" * 65_536
    total = 0
    pause = asyncio.Event()

    def frame(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data

    async def pour(writer: asyncio.StreamWriter) -> None:
        for _ in range(size // len(piece)):
            writer.write(frame(piece))
            await writer.drain()
        if framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        await read_head(reader)
        if direction == "down":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
            head += (
                b"Transfer-Encoding: chunked\r\n\r\n"
                if framing == "chunked"
                else b"Content-Length: %d\r\n\r\n" % size
            )
            writer.write(head)
            await pour(writer)
        else:
            await pause.wait()
            while total < size:
                data = await reader.read(65_536)
                total += data.count(b"x")
            writer.write(OK)
        await reader.read()

    async with (
        raw_service(talk) as port,
        running_gateway(f"http://127.0.0.1:{port}", timeout_s=20) as gateway,
    ):
        client = await Client.connect(gateway)
        tracemalloc.start()
        try:
            if direction == "up":
                framed = {"Content-Length": str(size)}
                if framing == "chunked":
                    framed = {"Transfer-Encoding": "chunked"}
                client.send("PUT", "/api/profile", framed)
                pouring = asyncio.create_task(pour(client.writer))
                await asyncio.sleep(0.3)
                pause.set()
                await pouring
                assert (await client.answer())[0] == 200
                assert total == size
            else:
                client.send("GET", "/api/profile")
                await client.head()
                await asyncio.sleep(0.3)
                received = 0
                while received < size:
                    data = await client.reader.read(65_536)
                    assert data
                    received += data.count(b"x")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Client, gateway and service share this process; each holds a buffer or two.
        assert peak < 4 * MIB, f"{peak / MIB:.1f} MiB held for a body of {size / MIB:.0f}"
        client.close()


# Aborts


@pytest.mark.parametrize("moment", ["before the head", "in the body", "in the upload"])
async def test_a_client_that_goes_cancels_upstream(moment: str) -> None:
    """R1.51; nothing of the request stays behind."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if moment == "in the body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        arrived.set()
        try:
            while await reader.read(65_536):
                pass
        finally:
            gone.set()

    async with (
        raw_service(talk) as port,
        running_gateway(f"http://127.0.0.1:{port}", timeout_s=30) as gateway,
    ):
        client = await Client.connect(gateway)
        if moment == "in the upload":
            client.send("POST", "/api/payments", {"Content-Length": "100"}, b"part")
        else:
            client.send("GET", "/api/payments")
        async with asyncio.timeout(5):
            await arrived.wait()
        if moment == "in the body":
            await client.head()
        client.close()
        async with asyncio.timeout(1):
            await gone.wait()
            await gateway.entry.idle()


# Trouble


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refusing_service_is_502(method: str) -> None:
    """R1.12, at once; and a service that returns is found again without waiting."""
    port = free_port()
    async with running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        began = time.monotonic()
        status, headers, body = await client.ask(method, "/api/payments")
        assert (status, code(body)) == (502, "BAD_GATEWAY")
        assert headers["x-correlation-id"]
        assert time.monotonic() - began < 1
        service = EchoService()
        await service.start(port)
        assert (await client.ask(method, "/api/payments"))[0] == 200
        await service.close()
        client.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_broken_answer_is_502_and_asked_for_once(method: str, said: bytes) -> None:
    """R1.12, R1.52: on a fresh connection nothing is repeated, not even a GET."""
    requests = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_head(reader)
        requests += 1
        writer.write(said)
        await writer.drain()

    paths = {"DELETE": "/api/auth/devices/x", "PUT": "/api/payments/x"}
    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        status, _, body = await client.ask(method, paths.get(method, "/api/payments"))
        assert (status, code(body)) == (502, "BAD_GATEWAY")
        assert requests == 1
        client.close()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_only_a_get_is_repeated_on_a_connection_that_was_closed_while_idle(
    method: str,
) -> None:
    """R1.52: whoever may have had an effect is answered 502."""
    requests: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(OK)
        # The second request of a connection is read and the connection broken.
        head = await read_head(reader)
        requests.append(head.split()[0].decode())

    paths = {"DELETE": "/api/auth/devices/x", "PUT": "/api/payments/x"}
    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        warm = "/api/auth/me" if method == "DELETE" else "/api/payments"  # of the same service
        assert (await client.ask("GET", warm))[0] == 200
        status, _, _ = await client.ask(method, paths.get(method, "/api/payments"))
        assert status == (200 if method == "GET" else 502)
        assert requests == [method]
        client.close()


async def test_an_answer_that_breaks_off_looks_broken() -> None:
    """The client must not take half a body for a whole one, in either framing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        writer.transport.abort()

    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        client.send("GET", "/api/payments")
        assert (await client.head())[0] == 200
        assert await client.chunk() == b"first"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ValueError)):
            await client.chunk()


async def test_a_silent_service_is_504_at_its_time() -> None:
    """R1.13, and the connection to it is given up."""
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read()
        gone.set()

    async with (
        raw_service(talk) as port,
        running_gateway(f"http://127.0.0.1:{port}", timeout_s=0.5) as gateway,
    ):
        client = await Client.connect(gateway)
        began = time.monotonic()
        status, _, body = await client.ask("POST", "/api/payments", {"Content-Length": "1"}, b"x")
        assert (status, code(body)) == (504, "GATEWAY_TIMEOUT")
        assert 0.45 <= time.monotonic() - began < 3.0
        async with asyncio.timeout(1):
            await gone.wait()
        client.close()


async def test_a_service_that_does_not_read_is_504_too() -> None:
    """An upload that nobody takes does not wait for ever."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    async with (
        raw_service(talk) as port,
        running_gateway(f"http://127.0.0.1:{port}", timeout_s=0.5) as gateway,
    ):
        client = await Client.connect(gateway)
        size = 32 * MIB
        client.send("PUT", "/api/profile", {"Content-Length": str(size)})

        async def pour() -> None:
            for _ in range(size // 65_536):
                client.writer.write(b"x" * 65_536)
                await client.writer.drain()

        pouring = asyncio.create_task(pour())
        status, _, body = await client.answer()
        assert (status, code(body)) == (504, "GATEWAY_TIMEOUT")
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        client.close()


async def test_a_slow_client_is_not_the_services_fault(service: EchoService) -> None:
    """The time limit is for the service: an upload may take longer than it."""
    async with running_gateway(service.url, timeout_s=0.3) as gateway:
        client = await Client.connect(gateway)
        client.send("POST", "/api/payments", {"Content-Length": "4"})
        for _ in range(4):
            await asyncio.sleep(0.25)
            client.writer.write(b"x")
        assert (await client.answer())[0] == 200
        assert service.seen[0].body == b"xxxx"
        client.close()


# Several instances


def _everywhere(urls: list[str]) -> dict[Service, list[str]]:
    return dict.fromkeys(Service, urls)


async def test_instances_share_the_work_and_a_refusing_one_is_left_out() -> None:
    """R0.13: requests are balanced; another instance is tried only when a connection is refused."""
    async with echo_service() as one, echo_service() as two:
        urls = [one.url, f"http://127.0.0.1:{free_port()}", two.url]
        async with running_gateway(_everywhere(urls)) as gateway:
            client = await Client.connect(gateway)
            for _ in range(12):
                assert (await client.ask("POST", "/api/payments"))[0] == 200
            client.close()
        assert len(one.seen) + len(two.seen) == 12
        assert min(len(one.seen), len(two.seen)) >= 4


async def test_a_refusing_instance_is_left_out_by_many_at_once() -> None:
    """Each request gets round all instances, whatever turns others take meanwhile."""
    async with echo_service() as good:
        urls = [good.url, f"http://127.0.0.1:{free_port()}"]
        async with running_gateway(_everywhere(urls)) as gateway:
            clients = [await Client.connect(gateway) for _ in range(20)]
            for _ in range(3):
                answers = await asyncio.gather(*(c.ask("POST", "/api/payments") for c in clients))
                assert [status for status, *_ in answers] == [200] * len(clients)
            for client in clients:
                client.close()
        assert len(good.seen) == 60


async def test_a_breaking_instance_is_not_made_up_for_by_another() -> None:
    """It may have done the work: 502, and the other instance hears nothing (R1.52)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)

    async with raw_service(talk) as port, echo_service() as good:
        urls = [good.url, f"http://127.0.0.1:{port}"]
        async with running_gateway(_everywhere(urls)) as gateway:
            client = await Client.connect(gateway)
            statuses = [(await client.ask("POST", "/api/payments"))[0] for _ in range(4)]
            assert sorted(statuses) == [200, 200, 502, 502]
            assert len(good.seen) == 2
            client.close()


# Bodies nobody wants


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_an_early_413_of_the_service_arrives(framing: str) -> None:
    """R1.10: the client sends on, the answer comes through, and the connection is usable."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read(1000)
        body = b'{"success":false,"error":{"code":"PAYLOAD_TOO_LARGE","message":"x"}}'
        writer.write(
            b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        while await reader.read(65_536):
            pass

    async with (
        raw_service(talk) as port,
        running_gateway(f"http://127.0.0.1:{port}") as gateway,
    ):
        client = await Client.connect(gateway)
        size = 2 * MIB
        head = {"Content-Length": str(size)}
        if framing == "chunked":
            head = {"Transfer-Encoding": "chunked"}
        client.send("POST", "/api/payments", head)
        for _ in range(size // 65_536):
            data = b"x" * 65_536
            client.writer.write(
                b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data
            )
            await client.writer.drain()
        if framing == "chunked":
            client.writer.write(b"0\r\n\r\n")
        status, _, body = await client.answer()
        assert (status, code(body)) == (413, "PAYLOAD_TOO_LARGE")
        assert (await client.ask("GET", "/health"))[0] == 200
        client.close()


async def test_a_refusal_reads_on(client: Client) -> None:
    """R1.10 for the gateway's own answers: 401 to an upload arrives, the connection goes on."""
    size = 3 * MIB
    client.send("POST", "/api/payments", {"Content-Length": str(size)}, token=None)
    for _ in range(size // 65_536):
        client.writer.write(b"x" * 65_536)
        await client.writer.drain()
    status, _, body = await client.answer()
    assert (status, code(body)) == (401, "UNAUTHORIZED")
    assert (await client.ask("GET", "/health"))[0] == 200


async def test_reading_on_has_an_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1.10: beyond the bound the connection ends."""
    monkeypatch.setattr("system.gateway.entrypoints.answers.READ_ON_S", 0.2)
    client.send("POST", "/api/payments", {"Content-Length": "1000"}, token=None)
    assert (await client.answer())[0] == 401
    async with asyncio.timeout(2):
        assert await client.reader.read() == b""


async def test_a_body_is_asked_for_only_if_it_is_wanted(
    service: EchoService, client: Client
) -> None:
    """`Expect: 100-continue` (RFC 9110, 10.1.1)."""
    waits = {"Content-Length": "4", "Expect": "100-continue"}
    client.send("POST", "/api/payments", waits)
    assert (await client.head())[0] == 100
    client.writer.write(b"body")
    assert (await client.answer())[0] == 200
    assert service.seen[0].body == b"body"
    assert service.seen[0].header("Expect") == []
    client.send("POST", "/api/payments", waits, token=None)
    assert (await client.answer())[0] == 401


async def test_a_malformed_body_is_400_and_cancels_upstream() -> None:
    """A broken chunk is the client's fault, and the service must not see a whole request."""
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        data = await reader.read()
        assert b"0\r\n\r\n" not in data
        gone.set()

    async with raw_service(talk) as port, running_gateway(f"http://127.0.0.1:{port}") as gateway:
        client = await Client.connect(gateway)
        client.send("POST", "/api/payments", {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n")
        await asyncio.sleep(0.1)
        client.writer.write(b"zz\r\n")
        status, _, body = await client.answer()
        assert (status, code(body)) == (400, "BAD_REQUEST")
        async with asyncio.timeout(2):
            await gone.wait()
        client.close()


# Kinds of clients


async def test_old_clients_are_served(gateway: Running, service: EchoService) -> None:
    """HTTP/1.0: no chunks, and keep-alive only if asked for."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"part")
        await asyncio.sleep(0.05)
        await response.write(b"s")
        await response.write_eof()
        return response

    service.answer = answer
    client = await Client.connect(gateway)
    status, headers, body = await client.ask("GET", "/api/payments", version="1.0")
    assert (status, body) == (200, b"parts")
    assert "transfer-encoding" not in headers
    client = await Client.connect(gateway)
    for _ in range(2):
        status, headers, _ = await client.ask(
            "GET", "/health", {"Connection": "keep-alive"}, version="1.0"
        )
        assert headers["connection"] == "keep-alive"
    client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /api/payments HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /api/payments HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /api/payments HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/payments HTTP/1.1\r\n\r\n",
        b"GET /api/payments HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_get_the_error_envelope(
    gateway: Running, service: EchoService, sent: bytes
) -> None:
    """R1.4: 400 in our form, with a correlation id, and the connection ends."""
    client = await Client.connect(gateway)
    client.writer.write(sent)
    status, headers, body = await client.answer()
    assert (status, code(body)) == (400, "BAD_REQUEST")
    assert headers["x-correlation-id"]
    assert headers["content-type"].startswith("application/json")
    assert headers["server"] == "gateway"
    async with asyncio.timeout(2):
        assert await client.reader.read() == b""
    assert service.seen == []


async def test_connections_upstream_are_reused_but_not_for_long(
    service: EchoService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection serves many requests; an idle one is closed before the service does it."""
    monkeypatch.setattr(upstream_instance, "IDLE_S", 0.2)
    opened = 0
    made: Callable[[Any, Any, Any], None] = web.Server.connection_made

    def count(self: Any, handler: Any, transport: Any) -> None:
        nonlocal opened
        if self is service._server:
            opened += 1
        made(self, handler, transport)

    monkeypatch.setattr(web.Server, "connection_made", count)
    async with running_gateway(service.url) as gateway:
        client = await Client.connect(gateway)
        for _ in range(5):
            await client.ask("GET", "/api/payments")
        assert opened == 1
        assert service._server is not None
        await until(lambda: service._server is not None and not service._server.connections)
        await client.ask("GET", "/api/payments")
        assert opened == 2
        client.close()


async def test_many_requests_at_once(gateway: Running, service: EchoService) -> None:
    """200 clients, each gets its own answer."""

    async def one(number: int) -> None:
        client = await Client.connect(gateway)
        for turn in range(3):
            _, _, body = await client.ask("GET", f"/api/payments?n={number}-{turn}")
            assert json.loads(body)["data"]["target"] == f"/payments?n={number}-{turn}"
        client.close()

    await asyncio.gather(*(one(number) for number in range(200)))
    assert len(service.seen) == 600
