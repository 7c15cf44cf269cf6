"""The two hooks by which a project's conftest.py gives a trial its target and takes its result."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookspec(firstresult=True)
def pytest_seatrial_target(
    config: pytest.Config, stack: str, replicas: int, keep_up: bool
) -> Path | None:
    """Bring up a target when ``--target`` names none, and return its target file.

    Args:
        config: pytest's configuration.
        stack: the value of ``--stack``; empty when it was not given.
        replicas: the value of ``--replicas``.
        keep_up: leave it running after the run.

    Raises:
        harness.probe.CouldNotObserve: it did not come up; the text says what to do.
    """


@pytest.hookspec
def pytest_seatrial_finished(config: pytest.Config, run_folder: Path) -> None:
    """The result is written: render it, and take down what pytest_seatrial_target brought up."""
