"""Single parts are stopped, started, paused and killed by any process that knows the folder."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.stack import acts, ports, process, readiness
from system.stack.acts import PartFailed
from system.stack.errors import StackNotThere, UnknownPart
from system.stack.launch import Launch, Readiness
from system.stack.state import StateFolder

# A stand-in for a service: answers every path as a service that has all it needs.
_SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"data": {"status": "ready"}}'
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StateFolder]:
    """A stack with one part, `auth`, that is recorded but does not run."""
    state = StateFolder("acts", project=tmp_path)
    port = ports.free(["auth"])["auth"]
    with state.held(alone=True):
        state.create()
        state.write({"name": "acts", "phase": "up"})
        state.keep_launch(
            Launch(
                part="auth",
                command=(sys.executable, "-S", "-c", _SERVICE, str(port)),
                environment={},
                folder=".",
                readiness=Readiness("http", port),
                grace=2.0,
            )
        )
    yield state
    found = state.process_of("auth")
    if found is not None:
        process.end(found, signal.SIGKILL, 2.0)
    shutil.rmtree(state.path, ignore_errors=True)


def serves(state: StateFolder) -> bool:
    """Whether the part answers at its port."""
    return readiness.problem(state.launch_of("auth").readiness, strict=True) is None


def test_a_part_starts_serves_and_stops(stack: StateFolder) -> None:
    """Each act returns when it is done."""
    acts.control(stack, "auth", "start")
    assert serves(stack)

    acts.control(stack, "auth", "stop")
    assert not serves(stack)
    assert stack.process_of("auth") is None


def test_a_restarted_part_is_another_process_at_the_same_port(stack: StateFolder) -> None:
    """What others know of it stays true."""
    acts.control(stack, "auth", "start")
    first = stack.process_of("auth")

    acts.control(stack, "auth", "restart")

    assert serves(stack)
    assert stack.process_of("auth") not in (None, first)


def test_starting_what_runs_changes_nothing(stack: StateFolder) -> None:
    """A second start finds the first one's process."""
    acts.control(stack, "auth", "start")
    first = stack.process_of("auth")

    acts.control(stack, "auth", "start")

    assert stack.process_of("auth") == first


def test_a_killed_part_comes_back_by_start(stack: StateFolder) -> None:
    """Kill leaves the record, so that start repeats it."""
    acts.control(stack, "auth", "start")

    acts.control(stack, "auth", "kill")
    assert stack.process_of("auth") is None
    acts.control(stack, "auth", "start")

    assert serves(stack)


def test_a_paused_part_is_frozen_until_it_is_resumed(stack: StateFolder) -> None:
    """The process stays and does not run; a paused part can be stopped as well."""
    acts.control(stack, "auth", "start")
    found = stack.process_of("auth")
    assert found is not None

    acts.control(stack, "auth", "pause")
    assert _state(found.pid) == "T"
    acts.control(stack, "auth", "resume")
    assert serves(stack)
    assert _state(found.pid) != "T"

    acts.control(stack, "auth", "pause")
    acts.control(stack, "auth", "stop")
    assert stack.process_of("auth") is None


def test_pausing_what_does_not_run_is_an_error(stack: StateFolder) -> None:
    """A fault that hits nothing must not look as if it had been injected."""
    with pytest.raises(PartFailed, match="does not run"):
        acts.control(stack, "auth", "pause")


def test_a_part_that_ends_at_once_shows_its_log(stack: StateFolder) -> None:
    """The message names the part and holds the end of what it said."""
    broken = Launch(
        part="auth",
        command=("/bin/sh", "-c", "echo no such secret >&2; exit 3"),
        environment={},
        folder=".",
        readiness=Readiness("port", 1),
    )
    stack.keep_launch(broken)

    with pytest.raises(PartFailed, match=r"auth: ended by itself(.|\n)*no such secret"):
        acts.control(stack, "auth", "start")


def test_a_part_that_never_answers_is_given_up(stack: StateFolder) -> None:
    """Waiting ends with what was seen last."""
    acts.control(stack, "auth", "start")
    acts.control(stack, "auth", "pause")

    with pytest.raises(PartFailed, match=r"not ready after 0 s"):
        acts.wait_until_ready(stack, "auth", strict=True, seconds=0.0)


def test_parts_and_stacks_that_are_not_there_are_errors(tmp_path: Path) -> None:
    """Nothing is made for a question about what is not there."""
    state = StateFolder("absent", project=tmp_path)

    with pytest.raises(UnknownPart, match="the parts are edge, gateway"):
        acts.control(state, "mainframe", "stop")
    with pytest.raises(StackNotThere):
        acts.control(state, "auth", "stop")

    assert not state.exists()


def _state(pid: int) -> str:
    facts = process.read(pid)
    assert facts is not None
    return facts.state
