"""A stand-in gateway that writes down what reaches it, and an nginx that is really started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from system.edge import certificates, page
from system.edge.render import EdgeSettings, render

EXEMPT = "127.0.0.2"

# What a careless upstream would send; none of it may reach a client or come twice.
HOSTILE_HEADERS = (
    "Server: Stand-In/1.2.3",
    "X-Powered-By: Stand-In",
    "X-Frame-Options: DENY",
    "Strict-Transport-Security: max-age=1",
    "Content-Security-Policy: default-src *",
    "X-Content-Type-Options: sniff",
    "X-Correlation-ID: of-the-upstream",
    "X-Accel-Redirect: /index.html",
    "X-Accel-Buffering: yes",
)


@dataclass
class Heard:
    """One request as it reached the stand-in."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    peer: str
    body: int = 0
    first_body_byte: float = 0.0
    ended_early: bool = False

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class StandIn:
    """An HTTP/1.1 server on a thread of its own; the path says how it behaves.

    ``/api/silent`` never answers, ``/api/drop`` breaks the connection, ``/api/teapot`` answers
    418, ``/api/large`` 4,000 bytes, ``/api/own-cache`` has a Cache-Control, ``/api/slow-body``
    sends one half, waits, sends the other; everything else says 200 with what it heard.
    """

    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0  # ever accepted

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Close everything; a second call does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._converse(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, _version = first.split(" ")
        pairs = [line.partition(": ")[::2] for line in lines]
        heard = Heard(method, target, pairs, writer.get_extra_info("peername")[0])
        self.heard.append(heard)
        await self._read_body(reader, heard)
        path = target.partition("?")[0]
        if path == "/api/silent":
            await self._end.wait()
        if path in ("/api/silent", "/api/drop"):
            return False
        if heard.values("Upgrade") and path == "/ws":
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\n\r\n"
            )
            while data := await reader.read(4096):  # an echo is frame enough for a proxy
                writer.write(data)
            return False
        document: dict[str, Any] = {"success": True, "data": {"heard": vars(heard)}}
        if path == "/api/large":
            document["data"] = "x" * 4000
        body = json.dumps(document).encode()
        lines = [
            "HTTP/1.1 418 Teapot" if path == "/api/teapot" else "HTTP/1.1 200 OK",
            *HOSTILE_HEADERS,
            "Content-Type: application/json",
            "Vary: Origin",
            f"Content-Length: {len(body)}",
        ]
        if path == "/api/own-cache":
            lines.append("Cache-Control: no-store, private")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if path == "/api/slow-body":
            writer.write(body[:10])
            await writer.drain()
            await asyncio.sleep(0.5)
            body = body[10:]
        writer.write(body)
        await writer.drain()
        return True

    async def _read_body(self, reader: asyncio.StreamReader, heard: Heard) -> None:
        try:
            if heard.values("Transfer-Encoding"):
                while size := int((await reader.readline()).strip() or b"0", 16):
                    await reader.readexactly(size + 2)
                    heard.first_body_byte = heard.first_body_byte or time.monotonic()
                    heard.body += size
                await reader.readline()
                return
            left = int((heard.values("Content-Length") or ["0"])[0])
            while left:
                piece = await reader.read(min(left, 65536))
                if not piece:
                    raise ConnectionError
                heard.first_body_byte = heard.first_body_byte or time.monotonic()
                heard.body += len(piece)
                left -= len(piece)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            heard.ended_early = True
            raise ConnectionError from None


class Edge:
    """A started edge.

    Attributes:
        settings: what it was rendered from.
        upstream: the stand-in behind it.
    """

    def __init__(self, settings: EdgeSettings, ca: Path, upstream: StandIn) -> None:
        self.settings = settings
        self.upstream = upstream
        self._ca = ca

    @property
    def tls(self) -> ssl.SSLContext:
        """A context of its own for each client, because clients write their ALPN into it."""
        return ssl.create_default_context(cafile=str(self._ca))

    def client(self, address: str = EXEMPT, *, http2: bool = False) -> httpx.Client:
        """A client from an address of this machine; follows no redirect."""
        transport = httpx.HTTPTransport(
            verify=self.tls, local_address=address, http2=http2, http1=not http2
        )
        return httpx.Client(
            base_url=f"https://localhost:{self.settings.https_port}",
            transport=transport,
            timeout=10,
            trust_env=False,
        )

    def plain_client(self) -> httpx.Client:
        """A client of the plain port."""
        return httpx.Client(
            base_url=f"http://localhost:{self.settings.http_port}",
            transport=httpx.HTTPTransport(local_address=EXEMPT),
            trust_env=False,
        )

    def connect(self, address: str = EXEMPT) -> ssl.SSLSocket:
        """A TLS connection that speaks HTTP/1.1 as it likes."""
        raw = socket.create_connection(("127.0.0.1", self.settings.https_port), 15, (address, 0))
        return self.tls.wrap_socket(raw, server_hostname="localhost")

    def raw(self, request: bytes, address: str = EXEMPT) -> bytes:
        """Everything that comes back for these bytes until the edge closes."""
        with self.connect(address) as connection:
            connection.sendall(request)
            return received(connection)

    def raw_plain(self, request: bytes) -> bytes:
        """The same on the plain port."""
        address = ("127.0.0.1", self.settings.http_port)
        with socket.create_connection(address, 15, (EXEMPT, 0)) as connection:
            connection.sendall(request)
            return received(connection)

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        text = Path(self.settings.access_log).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def error_log(self) -> str:
        """The error log so far."""
        return Path(self.settings.error_log).read_text(encoding="utf-8")


def received(connection: socket.socket, seconds: float = 15.0) -> bytes:
    """What comes until the other side closes, or is silent for so long."""
    connection.settimeout(seconds)
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            data += piece
    return data


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def running_edge(
    folder: Path,
    transform: Callable[[str], str] = str,
    second_gateway: str | None = None,
    **changes: Any,
) -> Iterator[Edge]:
    """An nginx with a stand-in behind it; ended by its id.

    Args:
        transform: changes the rendered text.
        second_gateway: ``host:port`` of another gateway beside the stand-in.
        changes: fields of the settings.
    """
    upstream = StandIn()
    upstream.start()
    folder.chmod(0o755)
    made = certificates.ensure(folder / "tls")
    http_port, https_port = _free_ports(2)
    settings = EdgeSettings(
        http_port=http_port,
        https_port=https_port,
        public_origin=f"https://localhost:{https_port}",
        certificate_path=str(made.certificate),
        key_path=str(made.key),
        static_root=str(folder / "static"),
        temp_folder=str(folder),
        pid_path=str(folder / "nginx.pid"),
        access_log=str(folder / "access.log"),
        error_log=str(folder / "error.log"),
        gateways=(f"127.0.0.1:{upstream.port}", *filter(None, [second_gateway])),
        source_address="127.0.0.250",
        listen=("127.0.0.1",),
        exempt=(EXEMPT,),
        api_docs=True,
        workers=1,
    )
    settings = replace(settings, **changes)
    page.build(Path(settings.static_root))
    configuration = folder / "nginx.conf"
    configuration.write_text(transform(render(settings)), encoding="utf-8")
    account = "nobody" if os.getuid() == 0 else None
    if account:
        _hand_over(folder, account)
    process = subprocess.Popen(
        ["nginx", "-c", str(configuration), "-e", "stderr"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account,
    )
    try:
        wait_for(lambda: _listens(https_port) or process.poll() is not None, "the edge to listen")
        assert process.poll() is None, Path(settings.error_log).read_text(encoding="utf-8")
        yield Edge(settings, made.ca, upstream)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        upstream.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1, (EXEMPT, 0)).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _hand_over(folder: Path, account: str) -> None:
    """Give the folder away; pytest's folders above it let nobody else through, so open those."""
    entry = pwd.getpwnam(account)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)
