"""The target's own rolling restart: carried out, timed, and shown to have replaced each process."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import Any

from harness.probe import CouldNotObserve, exchange, http_client
from harness.trial import Trial

COMMAND = "rolling-restart"
PARTS = ("gateway", "auth", "payments", "admin", "profile")


def rolling(trial: Trial, *, seconds: float) -> dict[str, float]:
    """Restart everything member by member; when it began and ended (seconds since 1970).

    Raises:
        CouldNotObserve: the target file has no such command, or it failed.
    """
    command = trial.target.commands.get(COMMAND)
    if command is None:
        raise CouldNotObserve(f"the target file has no [commands] {COMMAND}")
    began = time.time()
    try:
        subprocess.run(
            shlex.split(command), check=True, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.CalledProcessError as error:
        tail = (error.stderr or error.stdout or "").strip()[-300:]
        raise CouldNotObserve(f"{COMMAND} ended with {error.returncode}: {tail}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotObserve(f"{COMMAND} failed: {error}") from error
    return {"began": began, "ended": time.time()}


def members(trial: Trial) -> dict[str, tuple[str, ...]]:
    """The members of each part, at least two.

    Raises:
        CouldNotObserve: a part has one, so nothing could serve while it restarts.
    """
    found = {part: trial.members(part) for part in PARTS}
    alone = [part for part, urls in found.items() if len(urls) < 2]
    if alone:
        raise CouldNotObserve(
            f"the target file names one member of {', '.join(alone)}; expected two or more in "
            "[services.<name>] members"
        )
    return found


def uptimes(urls: dict[str, tuple[str, ...]]) -> dict[str, list[float]]:
    """Seconds that each member has been up, by part (R1.54); -1 where it does not tell."""
    found: dict[str, list[float]] = {}
    for part, addresses in urls.items():
        for url in addresses:
            with http_client(url) as client:
                found.setdefault(part, []).append(_uptime(exchange(client, "GET", "/health")))
    return found


def _uptime(seen: Any) -> float:
    body = seen["json"] if isinstance(seen["json"], dict) else {}
    data = body.get("data")
    return float(data["uptime"]) if isinstance(data, dict) and "uptime" in data else -1.0
