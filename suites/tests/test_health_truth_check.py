"""What recorded runs of health-truth do not show: silence that is not noticed, or for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import thresholds
from harness.evidence import Evidence
from harness.verdict import Outcome, Verdict
from suites.observability.test_health_truth import check

SUITES = Path(__file__).parents[1]
SOUND = Path(__file__).parent / "recorded" / "health-truth" / "pass" / "observation.json"
LIMITS = thresholds.load(SUITES / "thresholds.toml", "quick").of("health-truth")


def _judged(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Outcome:
    """The outcome of sound evidence, changed in one thing."""
    observation = json.loads(SOUND.read_text(encoding="utf-8"))
    change(observation)
    changed = tmp_path / "observation.json"
    changed.write_text(json.dumps(observation), encoding="utf-8")
    return check(Evidence(changed), LIMITS)


def _cut(part: str, when: str, observer: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    def change(observation: dict[str, Any]) -> None:
        observation["cuts"][part][when][observer].update(values)

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (
            _cut("redis", "down", "auth", checks={"redis": "up"}),
            "auth: redis, cut off: while away",
        ),
        (
            _cut("postgres-auth", "down", "auth", status=0, checks={}, error="ReadTimeout"),
            "auth: database, cut off: answer while away",
        ),
        (
            _cut("rabbitmq", "up", "gateway", seconds=15.1),
            "gateway: rabbitmq, cut off: return of rabbitmq",
        ),
        (
            _cut("redis", "up", "payments", checks={"redis": "down"}),
            "payments: redis, cut off: return of redis",
        ),
    ],
)
def test_each_way_of_failing_is_found(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], place: str
) -> None:
    """Only what was changed is a finding, in the pair and the way it was changed in."""
    outcome = _judged(tmp_path, change)

    assert outcome.verdict is Verdict.FAIL
    assert outcome.findings[0].place == place
    assert {finding.place.split(": ")[0] for finding in outcome.findings} == {place.split(": ")[0]}


def test_a_process_that_dies_of_silence_is_found(tmp_path: Path) -> None:
    """Liveness stays up whatever is cut off."""

    def change(observation: dict[str, Any]) -> None:
        observation["cuts"]["postgres-admin"]["alive"]["admin"] = 0

    outcome = _judged(tmp_path, change)

    assert outcome.verdict is Verdict.FAIL
    assert outcome.findings[0].place.endswith("liveness without postgres-admin")


def test_without_faults_a_stop_decides_alone(tmp_path: Path) -> None:
    """Where nothing is offered 18 pairs are judged, and the report says that none was cut off."""
    with_cuts = _judged(tmp_path, lambda observation: None)
    alone = _judged(tmp_path, lambda observation: observation.update(cuts={}))

    assert (with_cuts.verdict, alone.verdict) == (Verdict.PASS, Verdict.PASS)
    assert (len(with_cuts.judged), len(alone.judged)) == (32, 18)
    assert {f.name: f.value for f in with_cuts.figures}["pairs cut off"] == 14
    assert {f.name: f.value for f in alone.figures}["pairs cut off"] == 0
