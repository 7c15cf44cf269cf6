"""Reads what Schemathesis wrote down (NDJSON, a line an event) into facts; judges nothing."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from harness.redaction import redact_text

_EXCERPT: Final = 600  # characters of a body or message that are kept
_PHASE: Final = re.compile(rb'^\{"ScenarioFinished":.*?"phase":"(\w+)"')


class Operations:
    """Counts what happened to each operation.

    Args:
        labels: of the operations; requests to anything else are not counted.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.cases: dict[str, Counter[str]] = {label: Counter() for label in labels}
        self.statuses: dict[str, Counter[str]] = {label: Counter() for label in self.cases}

    def add(self, label: str, phase: str, status: int) -> None:
        """One request that was answered (status 0: it was not)."""
        if label in self.cases:
            self.cases[label][phase] += 1
            self.statuses[label][str(status)] += 1

    def as_facts(self) -> dict[str, Any]:
        """Per label the number of cases, by phase and by status."""
        return {
            label: {
                "cases": phases.total(),
                "phases": dict(phases),
                "statuses": dict(sorted(self.statuses[label].items())),
            }
            for label, phases in self.cases.items()
        }


def read(path: Path, labels: Iterable[str], *, peers: Iterable[str], ca: str) -> dict[str, Any]:
    """The facts of a run.

    Args:
        path: the event file; a last line that was cut off is left out.
        labels: of the document's operations.
        peers: identities that must not see each other's things, first the one that asks.
        ca: goes into the reproduction commands.

    Returns:
        version, seed, complete, stopped, seconds; per operation cases and statuses; links, checks,
        errors; failures grouped by what they have in common, each with an example.
    """
    counts, links, checks = Operations(labels), Counter[str](), Counter[str]()
    failures: dict[str, dict[str, Any]] = {}
    errors: dict[str, dict[str, Any]] = {}
    others = Counter[str]()
    facts: dict[str, Any] = {
        "version": "", "seed": None, "complete": False, "stopped": "", "seconds": 0.0,
    }  # fmt: skip
    with path.open("rb") as file:
        for line in file:
            try:
                ((name, event),) = json.loads(line).items()
            except ValueError:
                continue
            if name == "Initialize":
                facts["version"], facts["seed"] = event["schemathesis_version"], event["seed"]
            elif name == "EngineFinished":
                facts["complete"] = event["stop_reason"] == "completed"
                facts["stopped"] = event["stop_reason"]
                facts["seconds"] = round(event["running_time"], 1)
            elif name in ("NonFatalError", "FatalError"):
                _add_error(errors, event)
            elif name == "ScenarioFinished":
                _scenario(event, counts, links, checks, failures, ca)
                _peers(event["recorder"], list(peers)[1:], others)
    return {
        **facts,
        "operations": counts.as_facts(),
        "links": dict(sorted(links.items())),
        "checks": dict(sorted(checks.items())),
        "peers": dict(sorted(others.items())),
        "failures": list(failures.values()),
        "errors": list(errors.values()),
    }


def phases_seen(lines: Iterable[bytes]) -> Counter[str]:
    """How many scenarios have ended, by phase, from the beginnings of event lines."""
    return Counter(
        found[1].decode() for line in lines if (found := _PHASE.match(line[:400])) is not None
    )


def _scenario(
    event: Mapping[str, Any],
    counts: Operations,
    links: Counter[str],
    checks: Counter[str],
    failures: dict[str, dict[str, Any]],
    ca: str,
) -> None:
    recorder = event["recorder"]
    interactions = recorder.get("interactions", {})
    for id, node in recorder.get("cases", {}).items():
        if id not in interactions:
            continue  # made, but not sent
        case, interaction = node["value"], interactions[id]
        label = f"{case['method']} {case['path']}"
        status = _status(interaction)
        counts.add(label, event["phase"], status)
        if node.get("is_transition_applied") and status:
            links[node["transition"]["id"]] += 1
        for check in recorder.get("checks", {}).get(id, ()):
            checks[f"{check['name']} {check['status']}"] += 1
            if check["status"] != "success":
                _add_failure(failures, label, event["phase"], check, case, interaction, ca)


def _peers(recorder: Mapping[str, Any], others: list[str], seen: Counter[str]) -> None:
    """Requests that a peer sent: each repeats what the first may read."""
    for id, node in recorder.get("cases", {}).items():
        if node["value"].get("auth_identity") in others and id in recorder.get("interactions", {}):
            seen[str(_status(recorder["interactions"][id]))] += 1


def _add_failure(
    failures: dict[str, dict[str, Any]],
    label: str,
    phase: str,
    check: Mapping[str, Any],
    case: Mapping[str, Any],
    interaction: Mapping[str, Any],
    ca: str,
) -> None:
    failure = (check.get("failure_info") or {}).get("failure") or {}
    body = _body(interaction.get("response"))
    code, issues = _refusal(body)
    group = {
        "operation": label,
        "check": check["name"],
        "title": str(failure.get("title", "the check itself broke")),
        "status": _status(interaction),
        "code": code,
        "issues": issues,
    }
    key = json.dumps([group, _first_line(failure.get("validation_message", ""))])
    known = failures.get(key)
    if known is not None:
        known["times"] += 1
        return
    failures[key] = {
        **group,
        "times": 1,
        "phase": phase,
        "mode": case.get("meta", {}).get("generation", {}).get("mode", ""),
        "identity": case.get("auth_identity") or "nobody",
        "message": redact_text(str(failure.get("message", "")))[:_EXCERPT],
        "answer": redact_text(body)[:_EXCERPT],
        "reproduce": reproduction(interaction["request"], ca),
    }


def _first_line(text: Any) -> str:
    return str(text).partition("\n")[0]


def _add_error(errors: dict[str, dict[str, Any]], event: Mapping[str, Any]) -> None:
    inner = event.get("value") or event.get("exception") or {}
    text = redact_text(str(inner.get("message", inner)))[:_EXCERPT]
    title = str(inner.get("type", "error"))
    known = errors.setdefault(
        f"{title} {text}",
        {"title": title, "message": text, "operation": event.get("label", ""), "times": 0},
    )
    known["times"] += 1


def _status(interaction: Mapping[str, Any]) -> int:
    response = interaction.get("response")
    return int(response["status_code"]) if response else 0


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict) and "$base64" in value:
        return base64.b64decode(value["$base64"])
    return str(value or "").encode()


def _body(response: Mapping[str, Any] | None) -> str:
    return _bytes((response or {}).get("content")).decode(errors="replace")


def _refusal(body: str) -> tuple[str, list[list[str]]]:
    """Code and issues (code, first member of the path) of an error envelope, each once."""
    try:
        error = json.loads(body)["error"]
        code, details = str(error["code"]), error.get("details")
    except (ValueError, KeyError, TypeError):
        return "", []
    issues = [
        [str(issue.get("code", "")), str((issue.get("path") or [""])[0])]
        for issue in (details if isinstance(details, list) else [])
        if isinstance(issue, dict)
    ]
    return code, sorted({tuple(issue): issue for issue in issues}.values())


def reproduction(request: Mapping[str, Any], ca: str) -> str:
    """The request as a curl command; credentials are names of variables."""
    words = ["curl", "--include", *(["--cacert", ca] if ca else []), "--request", request["method"]]
    for name, values in request.get("headers", {}).items():
        for value in values if isinstance(values, list) else [values]:
            shown = "Bearer $TOKEN" if name.lower() == "authorization" else value
            words += ["--header", f"{name}: {shown}"]
    if request.get("body") is not None:
        words += ["--data-raw", _bytes(request["body"]).decode(errors="backslashreplace")]
    line = " ".join(shlex.quote(word) for word in [*words, request["uri"]])
    return redact_text(
        line.replace("'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"')
    )
