"""The engine's API, against a stand-in that listens on a socket of its own."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system.stack import docker_engine as engine

Answers = dict[tuple[str, str], tuple[int, bytes]]


class StandIn(socketserver.ThreadingUnixStreamServer):
    """An engine that gives the answers of a test and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: Answers = {}
        self.asked: list[tuple[str, str, Any]] = []
        super().__init__(str(path), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StandIn

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        version, _, rest = self.path.lstrip("/").partition("/")
        assert version.startswith("v1."), self.path
        path = "/" + rest
        self.server.asked.append((self.command, path, json.loads(body) if body else None))
        status, answer = self.server.answers.get(
            (self.command, path.partition("?")[0]), (404, b'{"message": "no such thing"}')
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        with contextlib.suppress(BrokenPipeError):  # an answer without a body is not waited for
            self.end_headers()
            self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815 - the names http.server calls

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A running stand-in, named by DOCKER_HOST."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with StandIn(path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_engine_is_reachable_or_not(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an answer counts, not a socket that is there."""
    assert not engine.reachable()
    stand_in.answers["GET", "/version"] = 200, b'{"Version": "20.10"}'
    assert engine.reachable()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert not engine.reachable()
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@somewhere")
    assert not engine.reachable()


def test_errors_say_what_the_engine_said(stand_in: StandIn) -> None:
    """Status, request and message, so that nobody has to look into its log."""
    stand_in.answers["POST", "/containers/create"] = 409, b'{"message": "name is in use"}'

    with pytest.raises(engine.EngineError, match="409 to POST /containers/create: name is in use"):
        engine.create("x", {"Image": "y"})


@pytest.mark.parametrize(
    ("action", "status", "fine"),
    [
        ("stop", 204, True),
        ("stop", 304, True),  # it is stopped already
        ("start", 304, True),
        ("kill", 409, True),  # it does not run
        ("pause", 409, False),
        ("stop", 500, False),
    ],
)
def test_what_is_so_already_is_no_error(
    stand_in: StandIn, action: str, status: int, fine: bool
) -> None:
    """Stopping what is stopped is done; anything else is not."""
    stand_in.answers["POST", f"/containers/abc/{action}"] = status, b""
    if fine:
        engine.act("abc", action, t=12)
        assert stand_in.asked == [("POST", f"/containers/abc/{action}?t=12", None)]
    else:
        with pytest.raises(engine.EngineError):
            engine.act("abc", action)


def test_logs_are_both_streams_without_their_frames(stand_in: StandIn) -> None:
    """Frames of the multiplexed stream are taken off; a cut last frame loses nothing else."""
    frames = b"".join(
        bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text
        for stream, text in ((1, b"first\n"), (2, b"second\n"))
    )
    stand_in.answers["GET", "/containers/abc/logs"] = 200, frames + b"\x01\x00"

    assert engine.logs("abc") == b"first\nsecond\n"
    assert engine.logs("gone") == b""


def test_logs_are_followed_until_the_container_ends(stand_in: StandIn) -> None:
    """Piece by piece without frames, from the moment that was asked for."""
    frames = b"".join(
        bytes([1, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for text in (b"one\n", b"two\n")
    )
    stand_in.answers["GET", "/containers/abc/logs"] = 200, frames

    assert list(engine.follow("abc", 1.5)) == [b"one\n", b"two\n"]
    assert "since=1.500000000" in stand_in.asked[0][1]
    assert list(engine.follow("gone", 1.5)) == []


def test_labels_and_values_go_as_json(stand_in: StandIn) -> None:
    """The filters of the API are JSON inside a query."""
    stand_in.answers["GET", "/containers/json"] = 200, b"[]"

    assert engine.containers({"a": "b"}) == []
    assert stand_in.asked[0][1] == (
        "/containers/json?all=true&filters=%7B%22label%22%3A+%5B%22a%3Db%22%5D%7D"
    )
