"""What a process of the target has used so far, by its own /metrics, or by the system's word."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.probe import CouldNotObserve


def read(url: str, name: str) -> float:
    """One unlabelled sample of a process, such as ``process_cpu_seconds_total``.

    Raises:
        CouldNotObserve: it is not there.
    """
    try:
        reply = httpx.get(f"{url}/metrics", timeout=10, trust_env=False)
        reply.raise_for_status()
    except httpx.HTTPError as error:
        raise CouldNotObserve(f"{url}/metrics: {type(error).__name__}: {error}") from error
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            if sample.name == name:
                return float(sample.value)
    raise CouldNotObserve(f"{url}/metrics has no {name}")


def cpu_seconds(url: str) -> float:
    """CPU time of a process of the target, in seconds."""
    return read(url, "process_cpu_seconds_total")


def cpu_seconds_of(pids: list[int]) -> float:
    """CPU time of local processes of ours, in seconds."""
    ticks = 0
    for pid in pids:
        # After the program's name, which may hold anything: utime and stime are fields 14 and 15.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
