"""A small HTTP server that does exactly what a test tells it, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from loadtests.engine.throwaway_certificate import write_certificate


class Seen(msgspec.Struct, frozen=True):
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: str


Behaviour = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = b"{}", status: int = 200, headers: str = "") -> bytes:
    """A complete answer with a length."""
    head = f"HTTP/1.1 {status} Text\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def say_yes(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answer 200 at once."""
    writer.write(answer())


class StandIn:
    """A running server; `seen` holds what it was asked, `connections` how many it accepted."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.seen: list[Seen] = []
        self.connections = 0
        self.origin = ""
        self.ca = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self.connections += 1
        try:
            # Cancelled at the end of the test: asyncio 3.11 complains when that is passed on.
            ends = (asyncio.IncompleteReadError, OSError, asyncio.CancelledError)
            with contextlib.suppress(*ends):
                while not writer.is_closing():
                    await self._serve_one(reader, writer)
        finally:
            writer.close()
            # Until then the socket is open, and the loop may be closed before.
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(method, path, headers, body, writer.get_extra_info("peername")[0])
        self.seen.append(seen)
        await self._behaviour(seen, writer)


@contextlib.contextmanager
def stand_in(behaviour: Behaviour = say_yes, tls_folder: Path | None = None) -> Iterator[StandIn]:
    """A stand-in server on a free port of 127.0.0.1, with TLS when it gets a folder for that."""
    server = StandIn(behaviour)
    context = None
    if tls_folder is not None:
        certificate, key = write_certificate(tls_folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.ca = str(certificate)
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
        port = listener.sockets[0].getsockname()[1]
        server.origin = f"{'https' if context else 'http'}://localhost:{port}"
        ready.set()
        await stop.wait()
        listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10.0), "the stand-in server did not start"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10.0)
        loop.close()
