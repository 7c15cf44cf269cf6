"""Many accepted writes through the edge, by several clients at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx

from harness.trial import Trial

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    trial: Trial,
    jobs: Iterable[Job],
    act: Callable[[httpx.Client, Job], Result],
    *,
    clients: int = 4,
) -> list[Result]:
    """Do every job with a few kept-alive clients; results in the order of the jobs."""
    local = threading.local()
    opened: list[httpx.Client] = []

    def run(job: Job) -> Result:
        if not hasattr(local, "client"):
            local.client = trial.client(timeout=30)
            opened.append(local.client)
        return act(local.client, job)

    try:
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(run, jobs))
    finally:
        for client in opened:
            client.close()
