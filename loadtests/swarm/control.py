"""Steer a swarm from a synchronous test: connect, let things happen, expect, ping, finish."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtests.engine.measure import process_environment
from loadtests.swarm.hive import Expectation
from loadtests.swarm.plan import SwarmPlan, check

_GRACE = 30.0  # seconds over a command's own time before the process counts as hung


class SwarmFailed(RuntimeError):
    """The swarm's process died or hung; the text says why."""


class Swarm:
    """A swarm in a process of its own; use it as a context manager.

    It is killed when the block is left, whatever happened in it; `finish` before that writes the
    evidence.

    Args:
        plan: who connects where.
        folder: where the evidence goes; made if it is not there.
        name: the evidence is ``<name>.json``.

    Raises:
        PlanError: the plan cannot be carried out; nothing was started.
    """

    def __init__(self, plan: SwarmPlan, folder: Path, name: str) -> None:
        self._plan = check(plan)
        self._out = folder / name
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> Swarm:
        # The plan holds tokens: readable by its owner only, and gone at the end.
        handle, path = tempfile.mkstemp(prefix="seatrial-swarm-")
        self._plan_file = Path(path)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.msgpack.encode(self._plan))
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.swarm", path, str(self._out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=process_environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        process.kill()
        process.communicate()
        self._errors.close()
        self._plan_file.unlink(missing_ok=True)

    def connect(self) -> dict[str, Any]:
        """Open all sockets; returns the counts of `status`.

        Raises:
            SwarmFailed: see the class; this holds for every method.
        """
        plan = self._plan
        time_limit = len(plan.clients) / plan.connect_rate + 2 * plan.connect_timeout
        return self._ask({"do": "connect"}, time_limit)

    def status(self) -> dict[str, Any]:
        """Counts: ``clients``, ``open``, ``welcomed``, ``events``, ``failed`` by reason."""
        return self._ask({"do": "status"}, 0.0)

    def expect(self, expectations: Sequence[Expectation], within: float) -> dict[str, int]:
        """Wait for deliveries, at most `within` seconds: counts ``expected`` and ``received``."""
        wanted = msgspec.to_builtins(expectations)
        return self._ask({"do": "expect", "expectations": wanted, "within": within}, within)

    def ping(self, within: float = 1.0) -> dict[str, int]:
        """Ping all open sockets: counts ``asked`` and ``answered`` within the seconds."""
        return self._ask({"do": "ping", "within": within}, within)

    def finish(self) -> dict[str, Any]:
        """Close all sockets and return the evidence, which lies in ``<folder>/<name>.json``.

        Keys: ``clients`` (one table each, see `client.ClientRecord`), ``events`` (each distinct
        event once), ``generator`` (CPU and lag of the swarm itself).
        """
        self._ask({"do": "finish"}, 10.0)
        assert self._process is not None
        self._process.wait(_GRACE)
        document: dict[str, Any] = msgspec.json.decode(
            self._out.with_name(self._out.name + ".json").read_bytes()
        )
        return document

    def _ask(self, command: dict[str, Any], seconds: float) -> dict[str, Any]:
        process = self._process
        assert process is not None, "use the swarm as a context manager"
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(command) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._failed(command) from None
        answer: dict[str, Any] = msgspec.json.decode(self._line(command, seconds + _GRACE))
        if "fault" in answer:
            raise SwarmFailed(answer["fault"])
        return answer

    def _line(self, command: dict[str, Any], seconds: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise SwarmFailed(f"the swarm did not {command['do']} within {seconds:g} s")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise self._failed(command)
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _failed(self, command: dict[str, Any]) -> SwarmFailed:
        assert self._process is not None
        code = self._process.wait(_GRACE)
        self._errors.seek(0)
        end = self._errors.read().decode(errors="replace").strip()[-2000:]
        return SwarmFailed(f"the swarm ended with code {code} during {command['do']!r}: {end}")
