"""Bodies stream through edge and gateway in both directions, and an abort reaches the upstream."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from harness.addresses import connect
from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import exchange, tls_context, wait_until
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts
from suites.probes.accounts import Session
from suites.probes.stand_in import Conversation, StandIn

CRITERION = Criterion(
    id="streaming-proxy",
    area="edge",
    statement="Request and answer bodies MUST stream through edge and gateway, sized and chunked, "
    "and a client that goes away MUST be noticed by the upstream.",
    gate="stand-in upstream; 3 sizes × 2 framings × 2 directions; first byte through before the "
    "last is sent; abort seen ≤ 5 s",
    rules=("R1.51", "R5.32"),
    needs=(Access.CONTROL, Access.SERVICES, Access.EXEMPT),
    parts=("payments",),
    effects=(Effect.READS, Effect.DISRUPTS),
    time_limit=180,
)

SIZES = {"64 KiB": 64 * 1024, "1 MiB": 1024 * 1024, "8 MiB": 8 * 1024 * 1024}
FRAMINGS = ("sized", "chunked")
DIRECTIONS = ("request", "answer")
ABORTS = ("abort while sending", "abort while receiving")
FIRST = 16 * 1024  # bytes that go ahead; the rest follows when they were seen on the other side
PATIENCE = 8.0
PATH = "/api/payments/00000000-0000-4000-8000-000000000000"  # GET and PUT are routed


def subject(direction: str, framing: str, size: str) -> str:
    """The name of one way through."""
    return f"{direction}, {framing}, {size}"


def test_bodies_stream_in_both_directions(trial: Trial) -> None:
    """The first bytes arrive while the last are still held back; aborts go through."""
    # The payments service is away meanwhile: once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Take the place of the payments service and send bodies through in two parts."""
    with trial.client() as client:
        person = accounts.register(client, trial.prefix)
    scene = _Scene()
    try:
        with StandIn(trial.take_place("payments"), scene.play):
            streams = {}
            for framing in FRAMINGS:
                for size, length in SIZES.items():
                    trial.progress(f"{size}, {framing}, both ways")
                    for direction in DIRECTIONS:
                        way = subject(direction, framing, size)
                        streams[way] = _through(trial, person, scene, direction, framing, length)
            trial.progress("clients that go away")
            aborts = {
                name: _abort(trial, person, scene, name, trial.limits["abort_seconds"])
                for name in ABORTS
            }
    finally:
        trial.control("payments", "start")
        with trial.client() as client:
            wait_until(
                lambda: (
                    exchange(client, "GET", "/api/payments?limit=1", headers=person.headers).status
                    == 200
                ),
                seconds=20,
                what="the payments service to be back",
                pause=0.2,
            )
    return {"streams": streams, "aborts": aborts}


@dataclass
class _Act:
    """What the stand-in is to do next, and what it saw."""

    direction: str
    framing: str
    length: int
    first_seen: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    received: int = 0
    intact: bool = False
    watch: bool = False  # the stand-in waits for the end of the connection, not for a word
    gone_at: float | None = None
    trouble: str = ""


class _Scene:
    """Hands the stand-in its next act."""

    def __init__(self) -> None:
        self.act = _Act("request", "sized", 0)

    def play(self, conversation: Conversation) -> None:
        """Answer one request as the present act says."""
        act = self.act
        try:
            if act.direction == "request":
                self._receive(conversation, act)
            else:
                self._answer(conversation, act)
        except OSError as error:
            act.trouble = f"{type(error).__name__}: {error}"
        finally:
            act.done.set()

    def _receive(self, conversation: Conversation, act: _Act) -> None:
        """Read a body, say when its first bytes are there, and answer 200."""
        body = bytearray()
        chunked = conversation.header("transfer-encoding").lower() == "chunked"
        while (_unchunked(body) if chunked else len(body)) < act.length:
            if chunked and body.endswith(b"0\r\n\r\n"):
                break
            piece = conversation.read(PATIENCE)
            if not piece:
                act.gone_at = time.monotonic()
                return
            body += piece
            if len(body) >= FIRST // 2:
                act.first_seen.set()
        act.received = _unchunked(body) if chunked else len(body)
        act.intact = act.received == act.length
        conversation.connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n{}"
        )

    def _answer(self, conversation: Conversation, act: _Act) -> None:
        """Send the first part of an answer, wait for the word to go on, send the rest."""
        framing = (
            b"Transfer-Encoding: chunked"
            if act.framing == "chunked"
            else b"Content-Length: %d" % act.length
        )
        send = conversation.connection.sendall
        send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            + framing
            + b"\r\nConnection: close\r\n\r\n"
        )
        send(_framed(b"x" * FIRST, act.framing))
        act.first_seen.set()
        if act.watch:
            act.gone_at = conversation.gone_at(PATIENCE)
            return
        if not act.go_on.wait(PATIENCE):
            act.trouble = "the client never had the first part"
            return
        rest = act.length - FIRST
        while rest > 0:
            size = min(rest, 256 * 1024)
            send(_framed(b"x" * size, act.framing))
            rest -= size
        if act.framing == "chunked":
            send(b"0\r\n\r\n")
        act.intact = True


def _framed(data: bytes, framing: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if framing == "chunked" else data


def _unchunked(body: bytes | bytearray) -> int:
    """How many bytes of data a chunked body holds; ours are all ``x``."""
    return body.count(b"x")


class _Client:
    """A TLS connection to the edge that sends and reads exactly when told."""

    def __init__(self, trial: Trial) -> None:
        http = trial.target.http
        place = urlsplit(http.origin)
        raw = connect(place.hostname or "", place.port or 443, trial.exempt_address(), PATIENCE)
        self.socket: ssl.SSLSocket = tls_context(http.ca).wrap_socket(
            raw, server_hostname=place.hostname
        )
        self.socket.settimeout(PATIENCE)

    def head(self, method: str, person: Session, *lines: str) -> None:
        """Send a request's head."""
        all_lines = [
            f"{method} {PATH} HTTP/1.1",
            "Host: localhost",
            f"Authorization: {person.headers['Authorization']}",
            "Connection: close",
            *lines,
        ]
        self.socket.sendall(("\r\n".join(all_lines) + "\r\n\r\n").encode())

    def read_some(self) -> bytes:
        """The next bytes; empty at the end."""
        return self.socket.recv(65536)

    def read_all(self) -> bytes:
        """Everything until the server closes."""
        received = bytearray()
        while piece := self.read_some():
            received += piece
        return bytes(received)


def _through(
    trial: Trial, person: Session, scene: _Scene, direction: str, framing: str, length: int
) -> dict[str, Any]:
    """One body in two parts: was the first part seen before the rest was sent, and all of it?"""
    act = scene.act = _Act(direction, framing, length)
    seen: dict[str, Any] = {"streamed": False, "complete": False, "status": 0, "error": ""}
    client = _Client(trial)
    try:
        if direction == "request":
            kind = (
                "Transfer-Encoding: chunked"
                if framing == "chunked"
                else f"Content-Length: {length}"
            )
            client.head("PUT", person, "Content-Type: application/octet-stream", kind)
            client.socket.sendall(_framed(b"x" * FIRST, framing))
            seen["streamed"] = act.first_seen.wait(PATIENCE)
            _send_rest(client, framing, length - FIRST)
            answer = client.read_all()
            seen["complete"] = act.intact
        else:
            client.head("GET", person)
            answer = client.read_some()
            while answer.count(b"x") < FIRST // 2:
                piece = client.read_some()
                if not piece:
                    break
                answer += piece
            # The stand-in still holds the rest back, so what is here came before it.
            seen["streamed"] = answer.count(b"x") >= FIRST // 2
            act.go_on.set()
            answer += client.read_all()
            body = answer.partition(b"\r\n\r\n")[2]
            seen["complete"] = body.count(b"x") == length
        seen["status"] = int(answer[9:12] or b"0")
    except (OSError, ValueError) as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    finally:
        act.go_on.set()
        client.socket.close()
    act.done.wait(PATIENCE)
    return seen | {"trouble": act.trouble}


def _send_rest(client: _Client, framing: str, rest: int) -> None:
    while rest > 0:
        size = min(rest, 256 * 1024)
        client.socket.sendall(_framed(b"x" * size, framing))
        rest -= size
    if framing == "chunked":
        client.socket.sendall(b"0\r\n\r\n")


def _abort(trial: Trial, person: Session, scene: _Scene, name: str, limit: float) -> dict[str, Any]:
    """Go away in the middle; how long it took until the stand-in's connection ended."""
    sending = name == ABORTS[0]
    act = _Act("request" if sending else "answer", "sized", SIZES["8 MiB"], watch=not sending)
    scene.act = act
    client = _Client(trial)
    if sending:
        length = f"Content-Length: {act.length}"
        client.head("PUT", person, "Content-Type: application/octet-stream", length)
        client.socket.sendall(b"x" * FIRST)
    else:
        client.head("GET", person)
    reached = act.first_seen.wait(PATIENCE)
    left = time.monotonic()
    client.socket.close()
    act.done.wait(max(PATIENCE, 2 * limit))
    noticed = None if act.gone_at is None else max(0.0, act.gone_at - left)
    return {"reached": reached, "noticed": noticed, "trouble": act.trouble}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every way streamed and was complete; both aborts were noticed in time."""
    ways = [subject(d, f, s) for f in FRAMINGS for s in SIZES for d in DIRECTIONS]
    tally = Tally([*ways, *ABORTS])
    for way in ways:
        seen = evidence["streams"].get(way)
        if seen is None:
            continue
        if seen["status"] != 200:
            tally.unproven(way, seen["error"] or f"answered {seen['status']}, expected 200")
            continue
        tally.judge(
            way,
            seen["streamed"],
            seen="the first bytes did not arrive while the rest was held back",
            expected="first bytes through before the last are sent",
        )
        tally.equal(way, seen["complete"], True, place=f"{way}: the whole body arrived")
    for name, seen in evidence["aborts"].items():
        if not seen["reached"]:
            tally.unproven(name, "the stand-in was never reached")
            continue
        noticed = seen["noticed"]
        tally.judge(
            name,
            noticed is not None and noticed <= limits["abort_seconds"],
            seen="not noticed" if noticed is None else f"after {noticed:.1f} s",
            expected=f"the upstream's connection ends within {limits['abort_seconds']} s",
        )
    return tally.outcome()
