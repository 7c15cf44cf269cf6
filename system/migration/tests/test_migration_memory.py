"""The size of the databases does not matter to the memory."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from system.migration.legacy.generator import generate
from system.migration.ports import NullProgress
from system.migration.tests.conftest import Cluster, Place, fresh
from system.stack.state import PROJECT

pytestmark = pytest.mark.platform

_SMALL, _LARGE = 5_000, 60_000
# What buffers may take; the larger database's files alone are 25 MiB more, as objects ten times.
_MOST_GROWTH = 16.0


def test_memory_is_flat(cluster: Cluster, tmp_path: Path) -> None:
    """Twelve times the rows, and each step takes what it took, give or take its buffers."""
    peaks: dict[int, dict[str, float]] = {}
    for rows in (_SMALL, _LARGE):
        folder = tmp_path / str(rows)
        folder.mkdir()
        place = fresh(cluster, folder)
        counts = generate(cluster.url("mfe_poc2"), rows, NullProgress())
        assert sum(counts.values()) >= rows
        peaks[rows] = {
            command: peak_of(place, command, *more)
            for command, *more in (["export"], ["import", "--no-backup"], ["validate"])
        }

    growth = {name: peaks[_LARGE][name] - peaks[_SMALL][name] for name in peaks[_SMALL]}
    assert max(growth.values()) < _MOST_GROWTH, peaks


def peak_of(place: Place, *arguments: str) -> float:
    """Run the command; returns its greatest resident size, MiB."""
    peak = 0
    with subprocess.Popen(
        [str(PROJECT / "bin" / "migrate"), *arguments],
        cwd=place.folder,
        env=place.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        # Not getrusage: it counts what the parent was before exec.
        status = Path(f"/proc/{command.pid}/status")
        while command.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.01)
    assert command.returncode == 0
    assert peak > 20 * 1024, "the command was not seen at work"
    return peak / 1024
