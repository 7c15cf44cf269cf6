"""Load at a steady rate for as long as something else takes: begins, and ends when told to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import msgspec

from loadtests.engine import samples
from loadtests.engine.measure import EngineFailed, plan_file, process_environment
from loadtests.engine.plan import Plan, check
from loadtests.engine.samples import Measurement

_GRACE = 30.0  # seconds over the plan's time-out in which the engine must have ended
_START = 30.0  # seconds in which it must have opened its connections


class SteadyLoad:
    """An engine that sends at the plan's rate between entering the context and `end`.

    The plan's ``seconds`` count for nothing; its order is used again from the start when it is
    over. The engine is killed when the block is left, whatever happened in it.

    Args:
        plan: what to send, and at what rate.
        folder: where ``<name>.npz`` and ``<name>.json`` go; made if it is not there.
        name: a file name without suffix.

    Raises:
        PlanError: the plan cannot be carried out; nothing was sent.
    """

    def __init__(self, plan: Plan, folder: Path, name: str) -> None:
        self._plan = check(plan)
        self._out = folder / name
        self._process: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()
        self._flowing = threading.Event()

    def __enter__(self) -> SteadyLoad:
        self._out.parent.mkdir(parents=True, exist_ok=True)
        path = self._held.enter_context(plan_file(self._plan))
        self._errors = self._held.enter_context(tempfile.TemporaryFile())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.engine", str(path), str(self._out), "--live"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=process_environment(),
        )
        self._reader = threading.Thread(target=self._drain, args=(self._process.stdout,))
        self._reader.start()
        self._tell({"rate": self._plan.schedule.rate})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # what it never read
                stream.close()
        self._held.close()

    def wait_until_flowing(self) -> None:
        """Wait until answers have come.

        Raises:
            EngineFailed: none did.
        """
        if not self._flowing.wait(_START):
            raise EngineFailed(f"no request was answered in {_START:g} s")

    def end(self) -> Measurement:
        """Send no more, wait for what is under way, and return the samples.

        Raises:
            EngineFailed: the engine died or hung.
        """
        process = self._process
        assert process is not None
        self._tell({"stop": True})
        try:
            code = process.wait(self._plan.timeout + _GRACE)
        except subprocess.TimeoutExpired:
            raise EngineFailed("the load engine did not end when it was told to") from None
        if code != 0:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-2000:]
            raise EngineFailed(f"the load engine ended with code {code}, expected 0: {said}")
        return samples.read(self._out)

    def _tell(self, command: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineFailed("the load engine has ended by itself") from None

    def _drain(self, output: IO[bytes] | None) -> None:
        """Take what the engine reports, which would hold it up otherwise."""
        assert output is not None
        for line in output:
            if b'"samples":[[' in line:
                self._flowing.set()
