"""What recorded runs of broker-restart do not show: writes refused, too little under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import thresholds
from harness.evidence import Evidence
from harness.verdict import Verdict
from suites.events.test_broker_restart import check

SUITES = Path(__file__).parents[1]
SOUND = Path(__file__).parent / "recorded" / "broker-restart" / "pass" / "observation.json"
LIMITS = thresholds.load(SUITES / "thresholds.toml", "quick").of("broker-restart")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({}, Verdict.PASS, id="as recorded"),
        pytest.param(
            {"refused_going_down": ["503 SERVICE_UNAVAILABLE"]}, Verdict.FAIL, id="refused"
        ),
        pytest.param(
            {"messages": {"in retry": {"sent": 60, "lying": 0, "arrived": 60}}},
            Verdict.INCONCLUSIVE,
            id="nothing in retry when the broker stopped",
        ),
        pytest.param({"accepted": {"going down": 3}}, Verdict.INCONCLUSIVE, id="few writes"),
    ],
)
def test_changed_evidence(tmp_path: Path, changes: dict[str, Any], verdict: Verdict) -> None:
    """Sound evidence, changed in one thing, is judged by that thing."""
    observation = json.loads(SOUND.read_text(encoding="utf-8"))
    for name, value in changes.items():
        observation[name] = {**observation[name], **value} if isinstance(value, dict) else value
    changed = tmp_path / "observation.json"
    changed.write_text(json.dumps(observation), encoding="utf-8")

    assert check(Evidence(changed), LIMITS).verdict is verdict
