"""Drives one engine process from one Locust worker, without blocking gevent's loop.

The rate goes to the engine line by line as Locust changes its number of users; finished samples
come back line by line and become Locust request events (see engine/live.py).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import msgspec
from gevent import subprocess
from gevent.event import Event
from gevent.lock import RLock

from harness import addresses
from harness import target as targets
from loadtests.engine.measure import process_environment
from loadtests.engine.plan import Plan, PlanError, decode, encode
from loadtests.engine.samples import Failure

_logger = logging.getLogger("seatrial")
_PAUSE = 0.1  # seconds between two looks at the number of users
_START = 60.0  # seconds for an engine to start
_GRACE = 10.0  # seconds over the plan's time-out for the last samples to come


class RequestFailed(Exception):
    """What Locust shows of a sample that is no success."""

    def __eq__(self, other: object) -> bool:
        # Locust groups failures by equality of their texts.
        return isinstance(other, RequestFailed) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Source(NamedTuple):
    """Where the requests come from, and where samples go.

    Attributes:
        target: target file to prepare, or empty.
        plan: prepared plan, or empty; goes before the target.
        samples: folder for whole samples; None drops them.
    """

    target: str
    plan: str
    samples: Path | None


class EngineDriver:
    """One engine process for one Locust worker.

    Args:
        environment: Locust's.
        source: where the requests come from.
    """

    def __init__(self, environment: Any, source: Source) -> None:
        self._environment = environment
        self._source = source
        self._process: Any = None
        self._greenlets: list[Any] = []
        self._stopping = False
        self._failed = False
        self._ready = Event()
        self._preparing = RLock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._plan: Plan | None = None

    # Listeners of Locust's events

    def start(self, **_: Any) -> None:
        """The test starts: take the prepared engine, or prepare one now, and tell it the rate."""
        headless = self._environment.parsed_options.headless
        with self._preparing:  # a preparation under way is waited for
            if self._process is None and not (headless and self._failed):
                self.prepare()
        if self._process is not None:
            self._greenlets.append(gevent.spawn(self._tell_rate))

    def stop(self, **_: Any) -> None:
        """The test stops: wait for what is outstanding, report it, and end the engine."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        self._tell({"stop": True})
        timeout = self._plan.timeout if self._plan else 0.0
        gevent.joinall(self._greenlets, timeout=timeout + _GRACE)
        self.kill()

    def kill(self, **_: Any) -> None:
        """Whatever happens: no engine outlives Locust, and it may write its samples if it can."""
        process, self._process = self._process, None
        if process is not None:
            self._stopping = True
            process.stdin.close()  # the engine ends by itself then
            try:
                process.wait(timeout=_GRACE)
            except subprocess.TimeoutExpired:
                _logger.error("the load engine did not end; it is killed and its samples are lost")
                self._environment.process_exit_code = 2
                process.kill()
                process.wait()
            process.stdout.close()
        gevent.killall(self._greenlets)
        self._greenlets = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # Preparation

    def prepare(self) -> None:
        """Make the requests and start the engine; it waits for a rate.

        When it does not work, Locust ends with exit code 2 and the reason in its log.
        """
        with self._preparing:
            self.kill()
            self._failed = False
            self._folder = tempfile.TemporaryDirectory(prefix="seatrial-locust-")
            folder = Path(self._folder.name)
            self._stopping = False
            self._ready.clear()
            try:
                command = [sys.executable, "-m", "loadtests.engine"]
                command += [str(self._prepared(folder)), str(self._out(folder)), "--live"]
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=process_environment(),
                )
                self._greenlets = [gevent.spawn(self._read_samples)]
                if not self._ready.wait(_START):
                    raise _NotPrepared(f"the load engine was not ready within {_START:g} s")
            except (PlanError, OSError, _NotPrepared) as error:
                self.kill()
                self._give_up(f"the load cannot start: {error}")

    def _prepared(self, folder: Path) -> Path:
        """The file of this worker's plan: its own seed, its own place in the order."""
        worker = self._worker()
        if self._source.plan:
            raw = Path(self._source.plan).read_bytes()
        elif self._source.target:
            raw = self._prepare_target(folder, worker)
        else:
            raise _NotPrepared("say --target FILE (a target file) or --plan FILE (a prepared plan)")
        plan = decode(raw)
        order = plan.order or tuple(range(len(plan.requests)))
        # Workers that share one plan begin at different places of it.
        begin = worker * 7919 % len(order)
        self._plan = msgspec.structs.replace(
            plan,
            order=order[begin:] + order[:begin],
            schedule=msgspec.structs.replace(plan.schedule, seed=plan.schedule.seed + worker),
        )
        file = folder / "plan"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(encode(self._plan))
        return file

    def _worker(self) -> int:
        """This worker's number; the master assigns it a moment after the start."""
        runner = self._environment.runner
        with gevent.Timeout(_GRACE, False):
            while runner.worker_index < 0:
                gevent.sleep(0.05)
        return max(0, int(runner.worker_index))

    def _prepare_target(self, folder: Path, worker: int) -> bytes:
        # In a process of its own: plain blocking code, away from gevent.
        _logger.info("preparing people and payments on the target …")
        prepared = folder / "prepared"
        command = [
            *(sys.executable, "-m", "loadtests.workloads", self._source.target, str(prepared)),
            *("--seed", str(worker + 1)),
        ]
        done = subprocess.run(
            command, env=process_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if done.returncode != 0:
            raise _NotPrepared(done.stderr.decode(errors="replace").strip()[-2000:])
        addresses.use(targets.load(Path(self._source.target)).addresses.relays)  # for the engine
        for line in done.stdout.decode().splitlines():
            _logger.info(line)
        return prepared.read_bytes()

    def _out(self, folder: Path) -> Path:
        if self._source.samples is None:
            return folder / "samples"
        self._source.samples.mkdir(parents=True, exist_ok=True)
        return self._source.samples / f"locust-{os.getpid()}"

    # The conversation with the engine

    def _tell_rate(self) -> None:
        assert self._plan is not None
        told = -1.0
        while not self._stopping:
            rate = self._environment.runner.user_count * self._plan.journey_steps
            if rate != told:
                self._tell({"rate": rate})
                told = rate
            gevent.sleep(_PAUSE)

    def _tell(self, command: dict[str, Any]) -> None:
        process = self._process
        if process is None:
            return
        try:
            process.stdin.write(json.dumps(command).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader notices that the engine is gone

    def _read_samples(self) -> None:
        groups: list[str] = []
        methods: list[str] = []
        process = self._process
        for line in process.stdout:
            document = json.loads(line)
            if "groups" in document:
                groups, methods = document["groups"], document["methods"]
                self._ready.set()
                continue
            for row in document["samples"]:
                self._report(groups[row[0]], methods[row[0]], row)
        if not self._stopping:
            self._ready.set()
            self._give_up("the load engine ended by itself; its last words are above")

    def _report(self, group: str, method: str, row: list[Any]) -> None:
        _, status, latency_ms, size, failure, _ = row
        exception = None
        if failure != Failure.NONE:
            exception = RequestFailed(f"{Failure(failure).name.lower()} (status {status})")
        self._environment.events.request.fire(
            request_type=method,
            name=group,
            response_time=latency_ms,
            response_length=size,
            exception=exception,
            context={},
        )

    def _give_up(self, reason: str) -> None:
        _logger.error(reason)
        self._failed = True
        self._environment.process_exit_code = 2
        runner = self._environment.runner
        # With a web UI a person is there, who reads the log and tries again.
        gevent.spawn(runner.quit if self._environment.parsed_options.headless else runner.stop)


class _NotPrepared(Exception):
    """There are no requests to send; the text says why."""
