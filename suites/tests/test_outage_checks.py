"""What recorded outages do not show: failed controls, too little seen, what only might happen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import thresholds
from harness.evidence import Evidence
from harness.verdict import Outcome, Verdict
from suites.cache import test_cache_outage
from suites.data import test_database_outage

SUITES = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "recorded"
CHECKS = {"database-outage": test_database_outage.check, "cache-outage": test_cache_outage.check}
REVOKED = "401 TOKEN_REVOKED"


def _judged(criterion: str, folder: Path, changes: dict[str, Any]) -> Outcome:
    """The outcome of the recorded pass with some values replaced, by their path."""
    copy = folder / criterion
    shutil.copytree(RECORDED / criterion / "pass", copy)
    observation = copy / "observation.json"
    document = json.loads(observation.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *above, last = path.split("|")
        place = document
        for name in above:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    observation.write_text(json.dumps(document), encoding="utf-8")
    limits = thresholds.load(SUITES / "thresholds.toml", "quick").of(criterion)
    return CHECKS[criterion](Evidence(observation), limits)


def _operation(**changes: Any) -> list[dict[str, Any]]:
    answer = {"answer": "503 SERVICE_UNAVAILABLE", "retry_after": ["1"], "seconds": 0.1}
    return [{**answer, **changes}]


ME = "outages|auth pause|operations|GET /api/auth/me"


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        pytest.param({}, Verdict.PASS, "", id="as recorded"),
        pytest.param(
            {"outages|admin pause": None}, Verdict.INCONCLUSIVE, "admin pause", id="one is missing"
        ),
        pytest.param(
            {"outages|auth stop|reached|down": "answers"},
            Verdict.INCONCLUSIVE,
            "the database is away",
            id="never away",
        ),
        pytest.param(
            {f"{ME}|before|answer": "503 SERVICE_UNAVAILABLE"},
            Verdict.INCONCLUSIVE,
            "GET /api/auth/me before",
            id="refused before",
        ),
        pytest.param(
            {f"{ME}|down": _operation(answer="504 GATEWAY_TIMEOUT")},
            Verdict.FAIL,
            "seen 504",
            id="the gateway gave it up",
        ),
        pytest.param(
            {f"{ME}|down": _operation(seconds=3.1)}, Verdict.FAIL, "after 3.10 s", id="too late"
        ),
        pytest.param(
            {f"{ME}|down": _operation(retry_after=[])},
            Verdict.FAIL,
            "Retry-After",
            id="no Retry-After",
        ),
        pytest.param(
            {f"{ME}|after|answer": "503 SERVICE_UNAVAILABLE"},
            Verdict.FAIL,
            "after the return",
            id="refused after",
        ),
        pytest.param(
            {"outages|profile stop|healed|ready": 10.1}, Verdict.FAIL, "healing", id="heals late"
        ),
        pytest.param(
            {"outages|payments stop|ready|down|auth|answers": {"503 SERVICE_UNAVAILABLE": 1}},
            Verdict.FAIL,
            "the others' readiness",
            id="another is not ready",
        ),
        pytest.param(
            {
                "writes|profile|answers|auth stop": {
                    "500 INTERNAL_ERROR": {"number": 1, "slowest": 0}
                }
            },
            Verdict.FAIL,
            "writes to profile",
            id="a write elsewhere fails",
        ),
        pytest.param(
            {"writes|payments|audited|never": 1}, Verdict.FAIL, "never audited", id="lost event"
        ),
        pytest.param(
            {"writes|payments|kept": {"asked": 9, "found": 8}}, Verdict.FAIL, "8 of 9", id="lost"
        ),
        pytest.param(
            {"writes|admin|accepted": 3}, Verdict.INCONCLUSIVE, "accepted writes", id="few writes"
        ),
        pytest.param(
            {"unread": "payments: seen 503"},
            Verdict.INCONCLUSIVE,
            "payments: seen 503",
            id="not read back",
        ),
        pytest.param(
            {"unread": "payments: seen 503", "outages|payments stop|healed|ready": 15.0},
            Verdict.FAIL,
            "healing",
            id="not healed, and so not read back",
        ),
        pytest.param({"again|not_once": 1}, Verdict.FAIL, "exactly once", id="paid twice"),
        pytest.param(
            {"uptimes|after|payments": [1.0]}, Verdict.FAIL, "younger", id="was restarted"
        ),
        pytest.param(
            {"faults": ["it was late"]}, Verdict.INCONCLUSIVE, "it was late", id="tired generator"
        ),
    ],
)
def test_changed_evidence_of_a_database(
    tmp_path: Path, changes: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    """Sound evidence, changed in one thing, is judged by that thing."""
    outcome = _judged("database-outage", tmp_path, changes)

    assert (outcome.verdict, reason in outcome.reason) == (verdict, True), outcome.reason


PAUSED = "outages|pause|meanwhile"


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        pytest.param({}, Verdict.PASS, "none stale", id="as recorded"),
        pytest.param({"outages|pause": None}, Verdict.INCONCLUSIVE, "pause", id="one is missing"),
        pytest.param(
            {f"{PAUSED}|redis": "answers"}, Verdict.INCONCLUSIVE, "redis is away", id="never away"
        ),
        pytest.param(
            {"outages|stop|pairs|payment|hit_before": 0},
            Verdict.INCONCLUSIVE,
            "could have been stale",
            id="nothing was cached",
        ),
        pytest.param(
            {"outages|stop|pairs|user|stale_after": [["a", "b", "HIT"]]},
            Verdict.FAIL,
            "seen a (HIT)",
            id="stale after",
        ),
        pytest.param(
            {"outages|stop|pairs|user|stale_meanwhile": [["None", "b"]]},
            Verdict.FAIL,
            "after a write",
            id="stale meanwhile",
        ),
        pytest.param(
            {"outages|stop|pairs|profile|refused_writes": {"503 SERVICE_UNAVAILABLE": 1}},
            Verdict.FAIL,
            "writes refused",
            id="a write was refused",
        ),
        pytest.param(
            {f"{PAUSED}|reads|user|outcomes": {"200 BYPASS": 19, "503 SERVICE_UNAVAILABLE": 1}},
            Verdict.FAIL,
            "user",
            id="a read was refused",
        ),
        pytest.param(
            {f"{PAUSED}|reads|user|bodies": {"another": 20}},
            Verdict.FAIL,
            "body",
            id="another body",
        ),
        pytest.param(
            {f"{PAUSED}|reads|user|seconds": [0.9] + [0.005] * 19},
            Verdict.FAIL,
            "later than the slowest usual",
            id="one is late",
        ),
        pytest.param(
            {f"{PAUSED}|reads|user|seconds": [0.005] * 10 + [0.15] * 10},
            Verdict.FAIL,
            "in the long run",
            id="all wait",
        ),
        pytest.param(
            {"outages|stop|after|back|user": 11.0}, Verdict.FAIL, "HIT after 11", id="back late"
        ),
        pytest.param(
            {f"{PAUSED}|sessions|graphql": {REVOKED: 4, "200": 1}},
            Verdict.FAIL,
            "sessions ended before, graphql",
            id="an ended session is let in",
        ),
        pytest.param(
            {"outages|pause|after|sessions|edge": {REVOKED: 24, "200": 1}},
            Verdict.FAIL,
            "after the return, edge",
            id="let in by old contents",
        ),
        pytest.param(
            {f"{PAUSED}|bystander|edge": {"401 TOKEN_REVOKED": 1}},
            Verdict.FAIL,
            "open sessions",
            id="an open one is refused",
        ),
        pytest.param({f"{PAUSED}|locked": "200"}, Verdict.FAIL, "locked before", id="lock open"),
        pytest.param(
            {f"{PAUSED}|limits|general": {"429 RATE_LIMIT_EXCEEDED": 12}},
            Verdict.FAIL,
            "general limiter",
            id="general limiter closed",
        ),
        pytest.param(
            {"general_before|refused": "401 UNAUTHORIZED"},
            Verdict.INCONCLUSIVE,
            "general limiter",
            id="general limit not reached before",
        ),
        pytest.param(
            {f"{PAUSED}|limits|edge|let_through": 30}, Verdict.FAIL, "edge limits", id="edge open"
        ),
        pytest.param(
            {f"{PAUSED}|realtime|closed_code": 1006}, Verdict.FAIL, "close 1006", id="socket stays"
        ),
        pytest.param(
            {"outages|stop|meanwhile|both|read": "200"},
            Verdict.FAIL,
            "without auth-service",
            id="let in by nobody",
        ),
        pytest.param(
            {"locked_before": ["401 INVALID_CREDENTIALS"]},
            Verdict.INCONCLUSIVE,
            "can be locked",
            id="nothing locks",
        ),
    ],
)
def test_changed_evidence_of_the_cache(
    tmp_path: Path, changes: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    """Sound evidence, changed in one thing, is judged by that thing."""
    outcome = _judged("cache-outage", tmp_path, changes)

    assert (outcome.verdict, reason in outcome.reason) == (verdict, True), outcome.reason
