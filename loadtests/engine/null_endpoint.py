"""The null endpoint: answers ``/bytes/<n>`` with n bytes at once, so a generator meets itself.

``/metrics`` tells its CPU time as a service of the platform does.
``python -m loadtests.engine.null_endpoint FOLDER [--plain]`` puts a throwaway certificate into
the folder, listens on a free port of 127.0.0.1, prints ``{"port": …}``, and ends when its
standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import select
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httptools
import uvloop

from loadtests.engine.measure import EngineFailed, process_environment
from loadtests.engine.throwaway_certificate import write_certificate

_PREFIX = b"/bytes/"
_START = 30.0  # seconds for the process to start


class _NullProtocol(asyncio.Protocol):
    """Answers each request with as many bytes as its path says."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are no subclasses

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        url, self._url = self._url, b""
        if url == b"/metrics":
            self._transport.write(_answered(f"process_cpu_seconds_total {time.process_time()}\n"))
            return
        answer = self._answers.get(url)
        if answer is None:
            answer = self._answers[url] = _answer(url)
        self._transport.write(answer)


def _answer(url: bytes) -> bytes:
    digits = url.removeprefix(_PREFIX)
    if not url.startswith(_PREFIX) or not digits.isdigit():
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    return _answered("x" * int(digits))


def _answered(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def _serve(tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    answers: dict[bytes, bytes] = {}
    server = await loop.create_server(
        lambda: _NullProtocol(answers), "127.0.0.1", 0, ssl=tls, backlog=1024
    )
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.close()


@contextlib.contextmanager
def null_endpoint(*, plain: bool = False) -> Iterator[tuple[str, str]]:
    """A null endpoint in a process of its own: gives its origin and CA file (empty when plain).

    Raises:
        EngineFailed: it did not start in time.
    """
    with tempfile.TemporaryDirectory(prefix="seatrial-null-") as folder:
        command = [sys.executable, "-m", "loadtests.engine.null_endpoint", folder]
        if plain:
            command.append("--plain")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=process_environment()
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                if not select.select([process.stdout], [], [], _START)[0]:
                    raise EngineFailed(f"the null endpoint did not start within {_START:g} s")
                line = process.stdout.readline()
                if not line:
                    raise EngineFailed("the null endpoint ended before it listened")
                port = json.loads(line)["port"]
                scheme, ca = ("http", "") if plain else ("https", f"{folder}/certificate.pem")
                yield f"{scheme}://localhost:{port}", ca
                process.stdin.close()
                process.wait(5.0)
            finally:
                process.kill()


def main(arguments: list[str]) -> int:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.engine.null_endpoint")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", action="store_true", help="without TLS")
    options = parser.parse_args(arguments)
    tls = None
    if not options.plain:
        certificate, key = write_certificate(options.folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
    uvloop.run(_serve(tls))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
