"""Several members of one service: what they tell together, and what each owes by itself."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import thresholds
from harness.evidence import Evidence
from harness.verdict import Outcome, Verdict
from suites.probes.diagnostics import together

SUITES = Path(__file__).parents[1]


def told(id: str, times: list[str], processed: str | None) -> dict[str, Any]:
    """One probe as a member of a service tells of it (R3.53)."""
    return {
        "eventId": id,
        "seq": 1,
        "attempts": len(times),
        "attemptTimes": times,
        "processedAt": processed,
    }


def test_attempts_of_all_members_count() -> None:
    """A probe that failed in one process and succeeded in another has one life."""
    first = [told("a", ["10:00:02", "10:00:01"], None)]
    second = [told("a", ["10:00:04"], "10:00:04")]

    assert together([first, second]) == [
        told("a", ["10:00:01", "10:00:02", "10:00:04"], "10:00:04")
    ]


def test_the_order_of_effect_is_that_of_the_whole() -> None:
    """Whoever handled them; what has not succeeded comes last."""
    first = [told("b", ["10:00:02"], "10:00:02"), told("d", ["10:00:05"], None)]
    second = [told("a", ["10:00:01"], "10:00:01"), told("c", ["10:00:03"], "10:00:03")]

    assert [probe["eventId"] for probe in together([first, second])] == ["a", "b", "c", "d"]


def judged(module: str, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Outcome:
    """The outcome of a sound platform's evidence with a second member, changed in one thing."""
    criterion = module.rpartition(".test_")[2].replace("_", "-")
    recorded = SUITES / "tests" / "recorded" / criterion / "pass" / "observation.json"
    observation = json.loads(recorded.read_text(encoding="utf-8"))
    change(observation)
    changed = tmp_path / "observation.json"
    changed.write_text(json.dumps(observation), encoding="utf-8")
    limits = thresholds.load(SUITES / "thresholds.toml", "quick").of(criterion)
    outcome: Outcome = importlib.import_module(module).check(Evidence(changed), limits)
    return outcome


def of_two(observation: dict[str, Any]) -> None:
    """The evidence as if auth had a second member that tells what the first one tells."""
    if "surfaces" in observation:
        observation["surfaces"]["auth port, member 2"] = observation["surfaces"]["auth port"]
        observation["doors"] = [*observation["surfaces"]]
        return
    observation["members"] = {"auth": ["auth", "auth, member 2"]}
    for seen in (*observation["outages"].values(), *observation.get("cuts", {}).values()):
        for when in ("before", "down", "alive", "up"):
            if "auth" in seen.get(when, {}):
                seen[when]["auth, member 2"] = seen[when]["auth"]


def taken_in(observation: dict[str, Any]) -> None:
    """The second member takes a forged token."""
    of_two(observation)
    door = json.loads(json.dumps(observation["surfaces"]["auth port"]))
    door["cases"]["alg none"] = {"status": 200, "json": {"success": True}, "error": ""}
    observation["surfaces"]["auth port, member 2"] = door


def unaware(observation: dict[str, Any]) -> None:
    """The second member does not notice that its database is away."""
    of_two(observation)
    down = observation["outages"]["postgres-auth"]["down"]
    down["auth, member 2"] = observation["outages"]["postgres-auth"]["before"]["auth"]


def unseen(observation: dict[str, Any]) -> None:
    """Nobody asked the second member."""
    of_two(observation)
    observation.get("surfaces", {}).pop("auth port, member 2", None)
    for seen in observation.get("outages", {}).values():
        seen.get("before", {}).pop("auth, member 2", None)


TOKENS = "suites.auth.test_token_verification"
HEALTH = "suites.observability.test_health_truth"


@pytest.mark.parametrize(
    ("module", "change", "verdict", "words"),
    [
        (TOKENS, of_two, Verdict.PASS, ""),
        (TOKENS, taken_in, Verdict.FAIL, "auth port, member 2, token: alg none"),
        (TOKENS, unseen, Verdict.INCONCLUSIVE, "auth port, member 2"),
        (HEALTH, of_two, Verdict.PASS, ""),
        (HEALTH, unaware, Verdict.FAIL, "auth, member 2: database"),
        (HEALTH, unseen, Verdict.INCONCLUSIVE, "auth, member 2"),
    ],
)
def test_each_member_is_judged(
    tmp_path: Path,
    module: str,
    change: Callable[[dict[str, Any]], object],
    verdict: Verdict,
    words: str,
) -> None:
    """One that is wrong fails the criterion, and one that was not asked leaves it open."""
    outcome = judged(module, tmp_path, change)

    assert outcome.verdict is verdict, outcome.reason
    assert words in outcome.reason
