"""Tells the running edge which gateways it may use: its configuration changed and read again.

nginx is reloaded, not restarted: new workers take over the listening sockets, and the old ones
finish what they have, WebSockets included.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

from system.edge.members import with_down
from system.stack import acts, environment, process
from system.stack.process import Process
from system.stack.state import StateFolder

_SECONDS = 15.0
_POLL_SECONDS = 0.01
_LEAVING = b"shutting down"  # in the title of an nginx worker that takes no new connection


def balance(state: StateFolder, *, without: str | None = None) -> None:
    """Have the edge use all gateways, or all but one; returns when no worker does otherwise.

    Args:
        without: the member that gets no new request.

    Raises:
        PartFailed: the edge does not run, or went on as before.
    """
    down = []
    if without is not None:
        url = environment.service_url(without, state.read()["ports"])
        down = [urlsplit(url).netloc]
    configuration = state.path / "edge" / "nginx.conf"
    with state.part_held("edge"):
        text = configuration.read_text(encoding="utf-8")
        # The text that runs is changed, not rendered anew: it may hold a defect's change.
        configuration.write_text(with_down(text, down), encoding="utf-8")
        _reload(state)


def _reload(state: StateFolder) -> None:
    """Have the edge read its configuration again; returns when only new workers take connections.

    Raises:
        PartFailed: the edge does not run, or went on as before.
    """
    master = state.process_of("edge")
    if master is None:
        raise acts.PartFailed(
            state, "edge", "does not run, so it cannot be told about its gateways"
        )
    before = _serving(master)
    master.signal(signal.SIGHUP)
    deadline = time.monotonic() + _SECONDS
    while True:
        now = _serving(master)
        if now and not now & before:
            return
        if time.monotonic() > deadline:
            raise acts.PartFailed(
                state, "edge", f"did not read its configuration in {_SECONDS:.0f} s"
            )
        time.sleep(_POLL_SECONDS)


def _serving(master: Process) -> set[Process]:
    """The workers that take new connections."""
    return {
        worker
        for worker in process.tree(master)
        if worker != master and _LEAVING not in _title(worker)
    }


def _title(worker: Process) -> bytes:
    try:
        return Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    except OSError:  # ended meanwhile
        return _LEAVING
