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
        pytest.param(
            {"audited": {"cut off": {"never": 1, "once": 199, "more": 0}}},
            Verdict.FAIL,
            id="lost while cut off",
        ),
        pytest.param(
            {"audited": {"lossy": {"never": 0, "once": 199, "more": 1}}},
            Verdict.FAIL,
            id="twice while packets got lost",
        ),
        pytest.param(
            {"accepted": {"cut off": 199}}, Verdict.FAIL, id="a write refused while cut off"
        ),
        pytest.param({"cut": {"flowing": None}}, Verdict.FAIL, id="not flowing after the cut"),
        pytest.param({"cut": {"flowing": 15.1}}, Verdict.FAIL, id="flowing too late after the cut"),
        pytest.param(
            {"cut": {"connected": ["http://127.0.0.1:1"]}},
            Verdict.INCONCLUSIVE,
            id="somebody was not cut off",
        ),
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


def test_without_faults_a_stop_decides_alone(tmp_path: Path) -> None:
    """Where nothing is offered the stop is judged as ever, and the report says that it was all."""
    observation = json.loads(SOUND.read_text(encoding="utf-8"))
    for phase in ("cut off", "healed", "lossy"):
        del observation["accepted"][phase], observation["audited"][phase]
    observation["cut"] = {}
    changed = tmp_path / "observation.json"
    changed.write_text(json.dumps(observation), encoding="utf-8")

    outcome = check(Evidence(changed), LIMITS)

    assert outcome.verdict is Verdict.PASS
    (figure,) = [f for f in outcome.figures if f.name == "phases with a disturbed network"]
    assert figure.value == 0
