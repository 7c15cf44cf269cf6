"""Has a running nginx follow its configuration, and knows when it does."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_SECONDS = 20.0  # a busy machine is slow
_POLL_SECONDS = 0.02
_LEAVING = "shutting down"  # in the title of a worker that takes nothing new


def reload(master: int, seconds: float = _SECONDS) -> bool:
    """Reload; true when no old worker accepts any more, false when that has not come in time.

    Requests that are under way, and WebSockets, stay with the old workers until they are over. A
    configuration that cannot be used leaves everything as it was; nginx says why in its log.

    Args:
        master: pid of the process whose children are the workers.
        seconds: until it is given up.
    """
    before = workers(master)
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while (now := workers(master)) and time.monotonic() < deadline:
        if now.keys() - before.keys() and all(
            _LEAVING in title for pid, title in now.items() if pid in before
        ):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def workers(master: int) -> dict[int, str]:
    """Pid and title of each worker."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            _, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
            if int(rest.split()[1]) == master:
                found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace")
        except OSError:  # ended meanwhile
            continue
    return found
