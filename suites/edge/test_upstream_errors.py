"""A broken upstream is told in the right words and in time, and heals by itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, error_code, exchange, header_values
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts

CRITERION = Criterion(
    id="upstream-errors",
    area="edge",
    statement="A refused upstream MUST be 502 within 1 s and a silent one 504 at its timeout, in "
    "JSON for APIs and as a page for pages, and it MUST heal by itself.",
    gate="each service and the gateway itself; ± 10 % of the timeout; heals ≤ 10 s",
    rules=("R1.12", "R1.13", "R5.16", "R5.30"),
    needs=(Access.CONTROL,),
    effects=(Effect.READS, Effect.DISRUPTS),
    time_limit=300,
)

# Service → a path that leads to it, and the answers that show it is there.
PATHS = {
    "auth": ("/api/auth/me", (200,)),
    "payments": ("/api/payments?limit=1", (200,)),
    "admin": ("/api/admin/audit-logs?limit=1", (200,)),
    "profile": ("/api/profile", (200, 404)),
}
PAGE = "/api-docs"
EDGE_TIMEOUT = 60.0


def test_broken_upstreams_are_told_and_heal(trial: Trial) -> None:
    """Each service refused and silent, the gateway refused; each heals."""
    # Every part is stopped and paused: seconds each, disturbing everybody; once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Stop and pause each upstream, ask the edge, give it back and wait."""
    timeout = trial.target.settings.upstream_timeout_ms / 1000
    patience = timeout + 10
    with trial.client() as client:
        token = accounts.login_as(trial, client, "admin").headers
    before = {name: _ask(trial, path, token) for name, (path, _) in PATHS.items()}
    for name, (_, alive) in PATHS.items():
        if before[name]["status"] not in alive:
            raise CouldNotObserve(
                f"{name} was answered {before[name]['error'] or before[name]['status']} before "
                "anything was disturbed"
            )
    refused = {}
    for name, (path, alive) in PATHS.items():
        trial.progress(f"{name} stopped")
        trial.control(name, "stop")
        try:
            answer = _ask(trial, path, token)
        finally:
            trial.control(name, "start")
        refused[name] = {"answer": answer, "healed": _healed(trial, path, token, alive)}
    trial.progress("all services paused")
    silent = _silent(trial, token, patience)
    trial.progress("gateway stopped")
    trial.control("gateway", "stop")
    try:
        answer, page = _ask(trial, PATHS["auth"][0], token), _ask(trial, PAGE, {})
    finally:
        trial.control("gateway", "start")
    gateway = {
        "answer": answer,
        "page": page,
        "healed": _healed(trial, PATHS["auth"][0], token, (200,)),
    }
    edge_silent = None
    if trial.limits["gateway_silence"]:
        trial.progress(f"gateway paused for {EDGE_TIMEOUT:g} s")
        trial.control("gateway", "pause")
        try:
            edge_silent = _ask(trial, PATHS["auth"][0], token, EDGE_TIMEOUT + 20)
        finally:
            trial.control("gateway", "resume")
        _healed(trial, PATHS["auth"][0], token, (200,))
    return {
        "timeout": timeout,
        "refused": refused,
        "silent": silent,
        "gateway": gateway,
        "edge_silent": edge_silent,
    }


def _ask(
    trial: Trial, path: str, token: Mapping[str, str], timeout: float = 10.0
) -> dict[str, Any]:
    with trial.client(timeout=timeout) as client:
        exchange(client, "GET", "/offline.html")  # the connection is open before it is timed
        seen = exchange(client, "GET", path, headers=token)
    return {
        "status": seen.status,
        "code": error_code(seen),
        "media": ", ".join(header_values(seen, "content-type")),
        "seconds": seen["seconds"],
        "error": seen["error"],
    }


def _silent(trial: Trial, token: Mapping[str, str], patience: float) -> dict[str, Any]:
    """All services paused at once, so that the timeouts run side by side."""
    paused = []
    try:
        for name in PATHS:
            trial.control(name, "pause")
            paused.append(name)
        with ThreadPoolExecutor(len(PATHS)) as pool:
            asked = {
                name: pool.submit(_ask, trial, path, token, patience)
                for name, (path, _) in PATHS.items()
            }
            answers = {name: future.result() for name, future in asked.items()}
    finally:
        for name in paused:
            trial.control(name, "resume")
    return {
        name: {"answer": answers[name], "healed": _healed(trial, path, token, alive)}
        for name, (path, alive) in PATHS.items()
    }


def _healed(
    trial: Trial, path: str, token: Mapping[str, str], alive: tuple[int, ...]
) -> float | None:
    """Seconds until the path answers as before; None when it does not in 20 s."""
    started = time.monotonic()
    while time.monotonic() - started < 20:
        if _ask(trial, path, token)["status"] in alive:
            return round(time.monotonic() - started, 2)
        time.sleep(0.1)
    return None


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Status, code, form, time and healing of each broken upstream."""
    timeout = evidence["timeout"]
    subjects = [f"{name} {how}" for how in ("refused", "silent") for name in PATHS]
    tally = Tally([*subjects, "gateway refused", "page"])
    for name in PATHS:
        seen = evidence["refused"][name]
        _judge(tally, f"{name} refused", seen["answer"], "502 BAD_GATEWAY", (0.0, 1.0))
        _judge_healing(tally, f"{name} refused", seen["healed"], limits)
        seen = evidence["silent"][name]
        window = (timeout * 0.9, timeout * 1.1)
        _judge(tally, f"{name} silent", seen["answer"], "504 GATEWAY_TIMEOUT", window)
        _judge_healing(tally, f"{name} silent", seen["healed"], limits)
        tally.figure(f"{name}: 504 after", round(seen["answer"]["seconds"], 2), "s")
    gateway = evidence["gateway"]
    _judge(tally, "gateway refused", gateway["answer"], "502 BAD_GATEWAY", (0.0, 1.0))
    _judge_healing(tally, "gateway refused", gateway["healed"], limits)
    page = gateway["page"]
    tally.equal("page", page["status"], 502, place=f"{PAGE} without the gateway")
    tally.judge(
        "page",
        page["media"].startswith("text/html"),
        seen=page["media"] or "no media type",
        expected="text/html",
        place=f"{PAGE} without the gateway",
    )
    if evidence["edge_silent"] is not None:
        window = (EDGE_TIMEOUT * 0.9, EDGE_TIMEOUT * 1.1)
        _judge(tally, "gateway silent", evidence["edge_silent"], "504 GATEWAY_TIMEOUT", window)
    return tally.outcome()


def _judge(
    tally: Tally,
    subject: str,
    answer: Mapping[str, Any],
    expected: str,
    window: tuple[float, float],
) -> None:
    seen = answer["error"] or f"{answer['status']} {answer['code']}".strip()
    tally.equal(subject, seen, expected)
    low, high = window
    tally.judge(
        subject,
        low <= answer["seconds"] <= high,
        seen=f"{answer['seconds']:.2f} s",
        expected=f"{low:.2f} to {high:.2f} s",
        place=f"{subject}: time",
    )
    tally.judge(
        subject,
        answer["media"].startswith("application/json"),
        seen=answer["media"] or "no media type",
        expected="application/json",
        place=f"{subject}: form",
    )


def _judge_healing(tally: Tally, subject: str, healed: float | None, limits: Limits) -> None:
    tally.judge(
        subject,
        healed is not None and healed <= limits["heal_seconds"],
        seen="not in 20 s" if healed is None else f"after {healed} s",
        expected=f"within {limits['heal_seconds']} s",
        place=f"{subject}: healing",
    )
