"""The gateway's memory while bodies of 64 MiB pass, in both directions: flat within 16 MiB.

The edge takes 10 MB (R5.26), so this goes to the gateway itself; a stand-in takes the place of the
payments service, which would refuse such a body.  It reads, writes or echoes; either side may stop
reading for a while, and then nobody in between may go on taking.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

from harness import addresses
from harness.probe import CouldNotObserve
from harness.target import Target
from loadtests.bench import usage
from loadtests.workloads.population import exempt_addresses, settle

MIB = 1024 * 1024
SIZE, WARM_UP = 64 * MIB, 8 * MIB
GOAL_MIB = 16.0
STALL_S = 1.0
SAMPLES, MOST_ROUNDS = 20, 40
_PATH = "/api/payments/00000000-0000-4000-8000-000000000000"
_PIECE = bytes(range(256)) * 256  # 64 KiB
_PATIENCE_S = 60.0
_EVERY_S = 0.01


@dataclass(frozen=True)
class Way:
    """One way through.

    Attributes:
        sends: the client sends a body.
        answered: the upstream answers with one of the same size, while it reads.
        chunked: without lengths.
        stalls: who stops reading in the middle: "", client or upstream.
    """

    sends: bool
    answered: bool
    chunked: bool
    stalls: str = ""

    def __str__(self) -> str:
        which = {(1, 0): "request", (0, 1): "answer", (1, 1): "both at once"}
        text = f"{which[self.sends, self.answered]}, {'chunked' if self.chunked else 'sized'}"
        return text + (f", {self.stalls} stalls" if self.stalls else "")


WAYS = (
    *(
        Way(sends, answered, chunked)
        for sends, answered in ((True, False), (False, True), (True, True))
        for chunked in (False, True)
    ),
    Way(True, False, False, "upstream"),
    Way(False, True, False, "client"),
    Way(True, True, True, "client"),
)


def run(target: Target) -> None:
    """Send each way once small, to warm up, and once whole; print what memory did."""
    for part in ("gateway", "payments"):
        if part not in target.services:
            raise CouldNotObserve(f"the target file has no [services.{part}]")
    who = settle(target, prefix="bench-bodies", users=2, payments_each=0).members[0]
    gateway = target.services["gateway"].url
    client = _Client(gateway, who.access_token, exempt_addresses(target)[0])
    place = urlsplit(target.services["payments"].url)
    worst = 0.0
    with _away(target, "payments"), _Upstream(place.hostname or "", place.port or 80) as upstream:
        for way in WAYS:
            _through(client, upstream, way, WARM_UP)
        for way in WAYS:
            rounds = 0
            with _Watch(gateway) as watch:
                # A gateway that is busy with bodies answers few scrapes.
                while watch.samples < SAMPLES and rounds < MOST_ROUNDS:
                    _through(client, upstream, way, SIZE)
                    rounds += 1
            worst = max(worst, watch.most - watch.before, watch.before - watch.least)
            print(
                f"{way!s:<38} {(watch.least - watch.before):+6.1f} … "
                f"{(watch.most - watch.before):+6.1f} MiB about {watch.before:.1f}, "
                f"{watch.samples} samples, {rounds} rounds"
            )
    print(f"worst {worst:.1f} MiB with bodies of {SIZE // MIB} MiB, goal {GOAL_MIB:g}")


def _through(client: _Client, upstream: _Upstream, way: Way, size: int) -> None:
    upstream.way, upstream.size, upstream.received = way, size, 0
    answered = client.exchange(way, size)
    wanted = (size if way.sends else 0, size if way.answered else 0)
    if (upstream.received, answered) != wanted:
        seen = (upstream.received, answered)
        raise CouldNotObserve(f"{way}: {seen} bytes arrived there and here, expected {wanted}")


class _Watch:
    """Samples the memory of a process of the target while a block runs, in MiB."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.before = self.least = self.most = self._now()
        self.samples = 0
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _now(self) -> float:
        return usage.read(self._url, "process_resident_memory_bytes") / MIB

    def _sample(self) -> None:
        while not self._over.wait(_EVERY_S):
            now = self._now()
            self.least, self.most = min(self.least, now), max(self.most, now)
            self.samples += 1


class _Client:
    """Sends one request at a time and counts what comes back."""

    def __init__(self, origin: str, token: str, address: str) -> None:
        place = urlsplit(origin)
        self._place = (place.hostname or "", place.port or 80)
        self._token = token
        self._address = address

    def exchange(self, way: Way, size: int) -> int:
        """Send, read the answer; returns the bytes of its body."""
        method = "PUT" if way.sends else "GET"
        lines = [
            f"{method} {_PATH} HTTP/1.1",
            f"Host: {self._place[0]}",
            f"Authorization: Bearer {self._token}",
            "Connection: close",
            *(_framing(way, size) if way.sends else ()),
        ]
        with addresses.connect(*self._place, self._address, _PATIENCE_S) as line:
            line.sendall(_head(lines))
            sending = threading.Thread(target=_send, args=(line, way, size))
            if way.sends:
                sending.start()
            reader = line.makefile("rb")
            status, length = _read_head(reader)
            if status != 200:
                raise CouldNotObserve(f"{way}: status {status}, expected 200")
            read = _read_body(reader, length, size, stalls=way.stalls == "client")
            if way.sends:
                sending.join(_PATIENCE_S)
            return read


class _Upstream:
    """Stands in for a service: reads what comes, answers as the present way says."""

    def __init__(self, host: str, port: int) -> None:
        self.way = WAYS[0]
        self.size = 0
        self.received = 0
        self._listener = socket.create_server((host, port))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> _Upstream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would not wake the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_PATIENCE_S)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        line.settimeout(_PATIENCE_S)
        with line, contextlib.suppress(OSError):
            reader = line.makefile("rb")
            request = reader.readline()
            length = _read_headers(reader)
            way, size = self.way, self.size
            if _PATH.removeprefix("/api").encode() not in request:
                line.sendall(_head(["HTTP/1.1 404 Not Found", "Content-Length: 0"]))
                return
            # Its last bytes come after the request's: an answer that is over ends the request.
            all_read = threading.Event()
            answering = threading.Thread(target=self._answer, args=(line, way, size, all_read))
            if way.answered:
                answering.start()
            if way.sends:
                self.received = _read_body(reader, length, size, stalls=way.stalls == "upstream")
            all_read.set()
            if way.answered:
                answering.join(_PATIENCE_S)
            else:
                self._answer(line, way, 0, all_read)

    def _answer(self, line: socket.socket, way: Way, size: int, all_read: threading.Event) -> None:
        line.sendall(_head(["HTTP/1.1 200 OK", "Connection: close", *_framing(way, size)]))
        _send(line, way, size, all_read)


def _framing(way: Way, size: int) -> list[str]:
    return ["Transfer-Encoding: chunked" if way.chunked else f"Content-Length: {size}"]


def _head(lines: list[str]) -> bytes:
    return "\r\n".join((*lines, "", "")).encode()


def _send(
    line: socket.socket, way: Way, size: int, before_last: threading.Event | None = None
) -> None:
    pieces = size // len(_PIECE)
    with contextlib.suppress(OSError):
        for number in range(1, pieces + 1):
            if number == pieces and before_last is not None:
                before_last.wait(_PATIENCE_S)
            line.sendall(b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE) if way.chunked else _PIECE)
        if way.chunked:
            line.sendall(b"0\r\n\r\n")


def _read_head(reader: BinaryIO) -> tuple[int, int | None]:
    """Status of an answer, and the length of its body if it is told."""
    status = int(reader.readline().split()[1])
    return status, _read_headers(reader)


def _read_headers(reader: BinaryIO) -> int | None:
    length = None
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


def _read_body(reader: BinaryIO, length: int | None, size: int, *, stalls: bool) -> int:
    """Read to the end of a body; returns its bytes, framing excluded."""
    read = 0
    for piece in _pieces(reader, length):
        if stalls and read < size // 2 <= read + piece:
            time.sleep(STALL_S)
        read += piece
    return read


def _pieces(reader: BinaryIO, length: int | None) -> Iterator[int]:
    if length is not None:
        while length and (data := reader.read(min(length, len(_PIECE)))):
            length -= len(data)
            yield len(data)
        return
    while size := int(reader.readline().partition(b";")[0], 16):
        yield len(reader.read(size))
        reader.readline()
    reader.readline()


@contextlib.contextmanager
def _away(target: Target, part: str) -> Iterator[None]:
    """A part of the target ended while the block runs."""
    commands = target.control_of(part)
    if commands is None or not (commands.stop and commands.start):
        raise CouldNotObserve(f"the target file has no [control.{part}] stop and start")
    subprocess.run(shlex.split(commands.stop), check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(shlex.split(commands.start), check=True, capture_output=True, timeout=60)
