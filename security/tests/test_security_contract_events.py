"""Event files of Schemathesis become facts: counted, grouped, without secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from security import contract_events

LABELS = ("GET /things", "POST /things")
REFUSED = {
    "success": False,
    "error": {
        "code": "VALIDATION_ERROR",
        "message": "Invalid request data",
        "details": [{"code": "custom", "path": ["end"], "message": "Must not be before start"}],
    },
}


def _content(value: Any) -> dict[str, str]:
    return {"$base64": base64.b64encode(json.dumps(value).encode()).decode()}


def _interaction(status: int | None, answer: Any = None, body: Any = None) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": "POST",
        "uri": "https://shop.example/things?x=1",
        "headers": {"Authorization": ["[Filtered]"], "Content-Type": ["application/json"]},
    }
    if body is not None:
        request["body"] = _content(body)
    response = None if status is None else {"status_code": status, "content": _content(answer)}
    return {"request": request, "response": response}


def _check(status: str, **failure: str) -> dict[str, Any]:
    found = {"name": "positive_data_acceptance", "status": status}
    return found | ({"failure_info": {"failure": failure}} if failure else {})


def _scenario(
    id: str,
    method: str,
    interaction: dict[str, Any] | None,
    *checks: dict[str, Any],
    phase: str = "fuzzing",
    **node: Any,
) -> dict[str, Any]:
    value = {
        "method": method,
        "path": "/things",
        "auth_identity": node.pop("identity", "first"),
        "meta": {"generation": {"mode": "positive"}},
    }
    recorder = {
        "cases": {id: {"value": value, **node}},
        "interactions": {id: interaction} if interaction else {},
        "checks": {id: list(checks)},
    }
    return {"ScenarioFinished": {"phase": phase, "recorder": recorder}}


def _read(tmp_path: Path, *events: dict[str, Any], tail: str = "") -> dict[str, Any]:
    path = tmp_path / "events.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return contract_events.read(path, LABELS, peers=("first", "second"), ca="/ca.pem")


FINISHED = {"EngineFinished": {"stop_reason": "completed", "running_time": 12.34}}


def test_cases_are_counted_by_operation_phase_and_status(tmp_path: Path) -> None:
    """A case that was made but never sent, and one of no operation, do not count."""
    facts = _read(
        tmp_path,
        {"Initialize": {"schemathesis_version": "4.32.5", "seed": 7}},
        _scenario("a", "GET", _interaction(200)),
        _scenario("b", "GET", _interaction(401), phase="coverage"),
        _scenario("c", "GET", _interaction(None)),
        _scenario("d", "GET", None),
        _scenario("e", "TRACE", _interaction(405)),
        FINISHED,
    )

    assert facts["operations"] == {
        "GET /things": {
            "cases": 3,
            "phases": {"fuzzing": 2, "coverage": 1},
            "statuses": {"0": 1, "200": 1, "401": 1},
        },
        "POST /things": {"cases": 0, "phases": {}, "statuses": {}},
    }
    assert (facts["version"], facts["seed"]) == ("4.32.5", 7)
    assert (facts["complete"], facts["seconds"]) == (True, 12.3)


def test_a_file_that_was_cut_off_is_not_complete(tmp_path: Path) -> None:
    """What was written whole is read, and nobody takes it for the whole run."""
    facts = _read(tmp_path, _scenario("a", "GET", _interaction(200)), tail='{"ScenarioFin')

    assert facts["operations"]["GET /things"]["cases"] == 1
    assert facts["complete"] is False


def test_failures_of_one_kind_are_one_with_an_example(tmp_path: Path) -> None:
    """Code and issues of the answer tell kinds apart; the example can be sent again."""
    failed = _check("failure", title="Schema-valid request rejected", message="Expected: 2xx")
    body = {"end": "2001-01-01", "password": "hunter2-hunter2"}
    sent = _interaction(400, REFUSED, body)
    facts = _read(
        tmp_path,
        _scenario("a", "POST", sent, failed, _check("success")),
        _scenario("b", "POST", sent, failed),
        _scenario("c", "POST", _interaction(400, {"error": {"code": "OTHER"}}), failed),
    )

    first, second = facts["failures"]
    assert (first["times"], first["code"], first["issues"]) == (
        2, "VALIDATION_ERROR", [["custom", "end"]],
    )  # fmt: skip
    assert (second["times"], second["code"], second["issues"]) == (1, "OTHER", [])
    assert facts["checks"] == {
        "positive_data_acceptance failure": 3,
        "positive_data_acceptance success": 1,
    }
    assert first["reproduce"].startswith("curl --include --cacert /ca.pem --request POST")
    assert '"Authorization: Bearer $TOKEN"' in first["reproduce"]
    assert "2001-01-01" in first["reproduce"]
    assert "hunter2" not in json.dumps(facts)


def test_links_and_what_the_peer_repeated_are_counted(tmp_path: Path) -> None:
    """Only a step that was taken with its values is a link exercised."""
    link: dict[str, Any] = {"transition": {"id": "POST -> GET"}, "phase": "stateful"}
    facts = _read(
        tmp_path,
        _scenario("a", "GET", _interaction(200), is_transition_applied=True, **link),
        _scenario("b", "GET", _interaction(200), is_transition_applied=False, **link),
        _scenario("c", "GET", _interaction(403), identity="second"),
    )

    assert facts["links"] == {"POST -> GET": 1}
    assert facts["peers"] == {"403": 1}


def test_errors_of_schemathesis_are_kept(tmp_path: Path) -> None:
    """The same error twice is one, counted."""
    event = {"NonFatalError": {"label": "GET /things", "value": {"message": "no way", "type": "E"}}}

    facts = _read(tmp_path, event, event)

    assert facts["errors"] == [
        {"title": "E", "message": "no way", "operation": "GET /things", "times": 2}
    ]


def test_progress_is_seen_from_the_beginnings_of_lines() -> None:
    """Whole events are too long to be parsed while it runs."""
    line = b'{"ScenarioFinished":{"id":"x","phase":"coverage","status":"success","recorder":{'

    assert contract_events.phases_seen([line, b'{"ScenarioStarted":{}}']) == {"coverage": 1}
