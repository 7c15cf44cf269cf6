"""Measure: carry out a plan in an engine process of its own and bring its samples back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loadtests.engine import samples
from loadtests.engine.plan import Plan, check, encode
from loadtests.engine.samples import Measurement

ROOT = Path(__file__).resolve().parents[2]


class EngineFailed(RuntimeError):
    """The engine's process gave no samples; the text says why."""


def measure(plan: Plan, folder: Path, name: str, *, time_limit: float | None = None) -> Measurement:
    """Carry out a plan and return its samples, which also lie in the folder.

    Args:
        plan: what to send, and when.
        folder: where ``<name>.npz`` and ``<name>.json`` go; made if it is not there.
        name: a file name without suffix.
        time_limit: seconds after which the engine is killed (default: the plan's own).

    Raises:
        PlanError: the plan cannot be carried out; nothing was sent.
        EngineFailed: the engine died or hung. It never lives on, whatever is raised here.
    """
    check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    limit = plan.time_limit if time_limit is None else time_limit
    with plan_file(plan) as path:
        command = [sys.executable, "-m", "loadtests.engine", str(path), str(folder / name)]
        run_process(command, limit, what=f"the load engine measuring {name!r}")
    return samples.read(folder / name)


@contextlib.contextmanager
def plan_file(plan: Plan) -> Iterator[Path]:
    """The plan as a file that only its owner can read (it holds tokens), gone afterwards."""
    handle, path = tempfile.mkstemp(prefix="seatrial-plan-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(encode(plan))
        yield Path(path)
    finally:
        Path(path).unlink()


def process_environment() -> dict[str, str]:
    """The environment in which a process of this package finds its modules."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_process(command: list[str], time_limit: float, *, what: str) -> None:
    """Run a process to its end within a hard limit; it is killed when anything is raised.

    Raises:
        EngineFailed: it ended with another code than 0, or did not end in time.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=process_environment(),
    ) as process:
        try:
            _, errors = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise EngineFailed(
                f"{what} did not end within {time_limit:g} s and was killed"
            ) from None
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        end = errors.decode(errors="replace").strip()[-2000:]
        raise EngineFailed(f"{what} ended with code {process.returncode}, expected 0: {end}")
