"""Assembles one run: options, target, reports; nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.probe import CouldNotObserve

if TYPE_CHECKING:
    from system.stack import lifetime

pytest_plugins = ["harness.pytest_plugin"]

_PLATFORM = pytest.StashKey["lifetime.Stack"]()
_STACK = pytest.StashKey[contextlib.ExitStack]()


def pytest_seatrial_target(config: pytest.Config, stack: str, replicas: int, keep_up: bool) -> Path:
    """Start the reference platform under a name of this run, and return its target file."""
    from system.stack.errors import StackError  # costs time only when it is used

    platform = _platform(stack or _default(), replicas)
    running = contextlib.ExitStack()
    if not keep_up:
        running.callback(platform.down)
    config.stash[_STACK], config.stash[_PLATFORM] = running, platform
    try:
        platform.up()
    except StackError as error:
        raise CouldNotObserve(f"the reference platform did not come up: {error}") from error
    return Path(platform.target_file)


def _default() -> str:
    """With a Docker engine containers, without one local processes; said, since it matters."""
    from system.stack import docker_engine

    if docker_engine.reachable():
        print(
            f"stack: containers (a Docker engine answers at {docker_engine.host()})",
            file=sys.stderr,
        )
        return "containers"
    print("stack: native (no Docker engine answers)", file=sys.stderr)
    return "native"


def _platform(stack: str, replicas: int) -> lifetime.Stack:
    name = f"trial-{os.getpid()}"
    if stack == "native":
        from system.stack import native

        return native.Stack(name=name, replicas=replicas)
    from system.stack import containers, docker_engine

    if not docker_engine.reachable():
        raise pytest.UsageError("--stack containers: " + containers.no_engine())
    return containers.Stack(name=name, replicas=replicas)


def pytest_seatrial_finished(config: pytest.Config, run_folder: Path) -> None:
    """Render the report, then take the platform down whatever the report did."""
    with config.stash.get(_STACK, contextlib.ExitStack()):
        from reports import render
        from system.stack.errors import StackError

        platform = config.stash.get(_PLATFORM, None)
        if platform is not None:
            try:
                _keep_logs(platform, run_folder)
            except StackError as error:  # an engine that is gone; the report matters more
                print(f"the parts' logs could not be kept: {error}", file=sys.stderr)
        render.render(run_folder)


def _keep_logs(platform: lifetime.Stack, run_folder: Path) -> None:
    """What the parts said, beside the evidence, when a criterion did not pass."""
    from harness import run
    from harness.redaction import redact_text
    from harness.verdict import Verdict

    passing = (Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.WAIVED)
    if all(entry.verdict in passing for entry in run.read_result(run_folder).verdicts):
        return
    folder = run_folder / "evidence" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for file in platform.logs():
        text = file.read_text(encoding="utf-8", errors="replace")
        (folder / file.name).write_text(redact_text(text), encoding="utf-8")
