"""Assembles one run: options, target, reports; nothing else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from harness.probe import CouldNotObserve

pytest_plugins = ["harness.pytest_plugin"]

_STACK = pytest.StashKey[contextlib.ExitStack]()


def pytest_seatrial_target(config: pytest.Config, stack: str, replicas: int, keep_up: bool) -> Path:
    """Start the reference platform under a name of this run, and return its target file."""
    from system.stack.native import Stack, StackError  # costs time only when it is used

    if stack == "containers":
        raise pytest.UsageError(
            "--stack containers is not built yet; use --stack native (the default)"
        )
    platform = Stack(name=f"trial-{os.getpid()}", replicas=replicas)
    running = contextlib.ExitStack()
    if not keep_up:
        running.callback(platform.down)
    config.stash[_STACK] = running
    try:
        platform.up()
    except StackError as error:
        raise CouldNotObserve(f"the reference platform did not come up: {error}") from error
    return Path(platform.target_file)


def pytest_seatrial_finished(config: pytest.Config, run_folder: Path) -> None:
    """Render the report, then take the platform down whatever the report did."""
    with config.stash.get(_STACK, contextlib.ExitStack()):
        from reports import render

        render.render(run_folder)
