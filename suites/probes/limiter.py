"""A rate limiter as one client meets it: burst from idle, steady rate, Retry-After."""

from __future__ import annotations

import time
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, error_code, exchange, header_values
from harness.trial import Trial


def characterise(
    trial: Trial,
    *,
    method: str,
    path: str,
    json: Any = None,
    rate_per_minute: int,
    burst: int,
    gaps: int,
    pause: float,
) -> dict[str, Any]:
    """Run one fresh address into a limit and watch how it lets go.

    Args:
        trial: gives a fresh limited address, and an exempt one as control.
        method, path, json: the request that is counted; any answer but 429 was let through.
        rate_per_minute, burst: the contracted limit; 3 × burst + rate requests find it or not.
        gaps: how many intervals between two requests let through are timed.
        pause: seconds between two knocks at the closed door.

    Raises:
        CouldNotObserve: nobody answered, or the address was not idle.
    """
    address = trial.fresh_address()
    with trial.client(address) as client, trial.client() as exempt:
        idle = exchange(client, method, path, json=json)
        if idle.status in (0, 429) or idle.status >= 500:
            seen = idle["error"] or idle.status
            raise CouldNotObserve(f"first request from an idle address was answered {seen}")
        opened = _burst(client, method, path, json, 3 * burst + rate_per_minute)
        refusal = opened.pop("refusal")
        if refusal is None:
            return {"address": address, "idle": idle.status, "burst": opened, "refusal": None}
        control = exchange(exempt, method, path, json=json)
        trial.progress("at the limit; waiting for Retry-After")
        waited = _wait_retry_after(client, method, path, json, refusal)
        trial.progress("timing what is let through")
        passes = _passes(client, method, path, json, gaps + 1, pause, rate_per_minute)
    return {
        "address": address,
        "idle": idle.status,
        "burst": opened,
        "refusal": {
            "status": refusal.status,
            "code": error_code(refusal),
            "message": _message(refusal),
            "retry_after": header_values(refusal, "retry-after"),
            "content_type": header_values(refusal, "content-type"),
        },
        "exempt_meanwhile": control.status,
        "after_retry_after": waited,
        "passes": passes,
    }


def _burst(client: httpx.Client, method: str, path: str, json: Any, most: int) -> dict[str, Any]:
    """Requests as fast as they go until the first refusal; the idle one counts as the first."""
    started = time.monotonic()
    let_through = 1
    for _ in range(most):
        seen = exchange(client, method, path, json=json)
        if seen.status == 429:
            return {
                "let_through": let_through,
                "seconds": round(time.monotonic() - started, 3),
                "refusal": seen,
            }
        if seen.status == 0 or seen.status >= 500:
            raise CouldNotObserve(f"inside the burst: {seen['error'] or seen.status}")
        let_through += 1
    seconds = round(time.monotonic() - started, 3)
    return {"let_through": let_through, "seconds": seconds, "refusal": None}


def _wait_retry_after(
    client: httpx.Client, method: str, path: str, json: Any, refusal: Exchange
) -> dict[str, Any]:
    told = header_values(refusal, "retry-after")
    seconds = int(told[0]) if told and told[0].isdigit() else 1
    time.sleep(min(seconds, 60) + 0.1)  # what the limiter asked for; 0.1 s for two clocks
    return {"waited": seconds, "status": exchange(client, method, path, json=json).status}


def _passes(
    client: httpx.Client,
    method: str,
    path: str,
    json: Any,
    wanted: int,
    pause: float,
    rate_per_minute: int,
) -> list[float]:
    """Empty the limiter, then knock steadily; the times of what was let through (seconds)."""
    while exchange(client, method, path, json=json).status not in (0, 429):
        pass
    started = time.monotonic()
    patience = 2.5 * wanted * 60.0 / rate_per_minute
    times: list[float] = []
    while len(times) < wanted and time.monotonic() - started < patience:
        seen = exchange(client, method, path, json=json)
        if seen.status not in (0, 429):
            times.append(round(time.monotonic() - started, 3))
        time.sleep(pause)
    return times


def _message(seen: Exchange) -> str:
    body = seen["json"] if isinstance(seen["json"], dict) else {}
    return str((body.get("error") or {}).get("message", ""))
