"""Dead letters say what happened to them, and an operator can list, read, replay, purge them."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import broker, diagnostics
from suites.probes.diagnostics import SERVICES, queue_of

CRITERION = Criterion(
    id="dead-letter",
    area="events",
    statement="Dead letters MUST carry reason, origin, attempts and times and can be listed, "
    "inspected, replayed and purged; a malformed message MUST go there at once.",
    gate="each of the 4 queues; received = sent",
    rules=("R3.15", "R3.46", "R3.48", "R3.50", "R3.54", "R3.55"),
    needs=(Access.AMQP, Access.DIAG, Access.DLQ),
    effects=(Effect.READS, Effect.WRITES, Effect.DISRUPTS),
    time_limit=180,
)

MALFORMED = ("not JSON", "no id", "foreign major version", "data breaks its type")
HEADERS = (
    "x-original-queue",
    "x-original-routing-key",
    "x-error",
    "x-failure-kind",
    "x-attempts",
    "x-first-failure-at",
    "x-last-failure-at",
)
TOOL = ("list", "inspect", "replay", "purge", "purge needs --yes", "looking changes nothing")


def test_dead_letters_are_told_and_handled(trial: Trial) -> None:
    """Malformed at once, failed after four attempts, each with its story; the tool acts on them."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Send what must die, look at the DLQ through the tool, replay, purge, and take the rest."""
    amqp = broker.access(trial.target)
    nonce = diagnostics.new_nonce()
    for service in SERVICES:
        diagnostics.read(trial, service, nonce)
    # Whoever was disturbed a moment ago may still be on his way back (R3.20); whoever does not
    # come back leaves his letters undelivered, which is seen below.
    broker.wait_for_consumers(amqp, map(queue_of, SERVICES), 20.0)
    found_before = broker.queue_depth(amqp, "events.dlq")
    sent_at = time.monotonic()
    with broker.channel(amqp) as channel:
        channel.confirm_delivery()
        for case, body in _malformed(nonce).items():
            broker.publish(
                channel, amqp.exchange, diagnostics.EVERY_QUEUE, body, message_id=f"{nonce}-{case}"
            )
    expected_malformed = len(MALFORMED) * len(SERVICES)
    malformed_seconds = _wait_for_depth(amqp, found_before + expected_malformed, sent_at, 5.0)
    with broker.channel(amqp) as channel:
        channel.confirm_delivery()
        failing = {
            service: diagnostics.publish_probe(
                channel, amqp, nonce, seq, fail_times=4, fail_queue=queue_of(service)
            )
            for seq, service in enumerate(SERVICES)
        }
    failing_at = time.monotonic()
    trial.progress("waiting for four attempts")
    everything = found_before + expected_malformed + len(SERVICES)
    failing_seconds = _wait_for_depth(
        amqp, everything, failing_at, trial.limits["dead_within_seconds"] + 3
    )
    trial.progress("using the operator's tool")
    tool = _use_tool(trial, amqp, nonce, failing, everything)
    left = diagnostics.take_dead_letters(amqp, nonce, 2.0, expected_malformed + len(SERVICES))
    return {
        "before": found_before,
        "malformed_seconds": malformed_seconds,
        "failing_seconds": failing_seconds,
        "failing": failing,
        "tool": tool,
        "left": left,
        "depth_after": broker.queue_depth(amqp, "events.dlq"),
    }


def _malformed(nonce: str) -> dict[str, bytes]:
    def changed(**changes: Any) -> bytes:
        event = {**diagnostics.envelope("diagnostics.probe", {"nonce": nonce, "seq": 0}), **changes}
        return json.dumps({k: v for k, v in event.items() if v is not None}).encode()

    return {
        "not JSON": f"{{nonce: {nonce}".encode(),
        "no id": changed(id=None),
        "foreign major version": changed(version="2.0"),
        "data breaks its type": changed(type="user.created", data={"nonce": nonce}),
    }


def _wait_for_depth(amqp: Any, wanted: int, since: float, seconds: float) -> float | None:
    """Seconds since ``since`` until the DLQ holds the wanted number; None when it never did."""
    while time.monotonic() - since < seconds:
        if broker.queue_depth(amqp, "events.dlq") >= wanted:
            return round(time.monotonic() - since, 2)
        time.sleep(0.1)
    return None


def _use_tool(
    trial: Trial, amqp: Any, nonce: str, failing: Mapping[str, str], everything: int
) -> dict[str, Any]:
    """List, inspect, replay one failed probe of each queue, refuse a purge, purge if alone."""
    listed = _dlq(trial, "list", "--json")
    again = _dlq(trial, "list", "--json")
    mine = failing["payments"]
    inspected = _dlq(trial, "inspect", mine, "--json")
    depth = broker.queue_depth(amqp, "events.dlq")
    replayed = _dlq(trial, "replay", mine, "--json")
    deadline = time.monotonic() + 10
    probe: dict[str, Any] = {}
    while time.monotonic() < deadline and not probe.get("processedAt"):
        found = [p for p in diagnostics.read(trial, "payments", nonce) if p["eventId"] == mine]
        probe = found[0] if found else {}
        time.sleep(0.1)
    refused = _dlq(trial, "purge", "--queue", queue_of("auth"))
    depth_refused = broker.queue_depth(amqp, "events.dlq")
    purge: dict[str, Any] = {"skipped": "letters of others are in the DLQ"}
    if trial.target.on_loopback() and everything == depth:
        purge = _dlq(trial, "purge", "--queue", queue_of("auth"), "--yes", "--json")
    return {
        "list": listed,
        "list_again": again,
        "inspect": inspected,
        "depth_after_looking": depth,
        "depth_expected": everything,
        "replay": replayed,
        "replayed_probe": probe,
        "purge_without_yes": refused,
        "depth_after_refusal": depth_refused,
        "purge": purge,
        "depth_after_purge": broker.queue_depth(amqp, "events.dlq"),
    }


def _dlq(trial: Trial, *arguments: str) -> dict[str, Any]:
    command = [*shlex.split(trial.target.commands["dlq"]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = None
    return {"exit": done.returncode, "json": document, "stderr": done.stderr[-300:]}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Everything sent has died where and as it must; the tool told and did the truth."""
    tally = Tally(
        [
            *(f"{queue_of(s)}: malformed" for s in SERVICES),
            *(f"{queue_of(s)}: handler" for s in SERVICES),
            *TOOL,
        ]
    )
    _check_times(tally, evidence, limits)
    listed = evidence["tool"]["list"]["json"]
    rows = listed if isinstance(listed, list) else []
    for service in SERVICES:
        queue = queue_of(service)
        mine = [row for row in rows if row.get("queue") == queue]
        malformed = sum(row.get("failureKind") == "malformed" for row in mine)
        failed = [r for r in mine if r.get("messageId") == evidence["failing"][service]]
        tally.equal(
            f"{queue}: malformed",
            malformed,
            len(MALFORMED),
            place=f"dead letters of {queue}, malformed",
        )
        seen = [(row.get("failureKind"), row.get("attempts")) for row in failed]
        tally.equal(f"{queue}: handler", seen, [("handler", 4)], place=f"dead letters of {queue}")
    for found in evidence["left"]:
        _check_letter(tally, found)
    _check_tool(tally, evidence)
    tally.figure("dead letters sent", len(SERVICES) * (len(MALFORMED) + 1))
    return tally.outcome()


def _check_times(tally: Tally, evidence: Evidence, limits: Limits) -> None:
    soon, late = evidence["malformed_seconds"], evidence["failing_seconds"]
    for service in SERVICES:
        tally.judge(
            f"{queue_of(service)}: malformed",
            soon is not None and soon <= limits["malformed_within_seconds"],
            seen=f"received after {soon} s" if soon is not None else "not received in 5 s",
            expected=f"all copies in the DLQ within {limits['malformed_within_seconds']} s",
            place="DLQ after malformed messages",
        )
        tally.judge(
            f"{queue_of(service)}: handler",
            late is not None and late <= limits["dead_within_seconds"],
            seen=f"received after {late} s" if late is not None else "not received",
            expected=f"one dead letter per queue within {limits['dead_within_seconds']} s",
            place="DLQ after four failed attempts",
        )
    if late is not None:
        tally.figure("dead after", late, "s", limit=limits["dead_within_seconds"])


def _check_letter(tally: Tally, found: Mapping[str, Any]) -> None:
    headers = found["headers"]
    queue, kind = str(headers.get("x-original-queue")), str(headers.get("x-failure-kind"))
    subject = f"{queue}: {kind}"
    place = f"dead letter {found['message_id']} of {queue}"
    missing = [name for name in HEADERS if not headers.get(name)]
    tally.equal(subject, missing, [], place=f"{place}: missing headers")
    tally.equal(subject, str(headers.get("x-attempts")), "1" if kind == "malformed" else "4")
    tally.equal(subject, found["delivery_mode"], 2, place=f"{place}: delivery mode")
    error = str(headers.get("x-error", ""))
    tally.judge(
        subject,
        len(error) <= 1024 and "Traceback" not in error,
        seen=error[:200],
        expected="at most 1,024 characters and no stack trace",
        place=f"{place}: x-error",
    )
    tally.judge(
        subject,
        str(headers.get("x-first-failure-at")) <= str(headers.get("x-last-failure-at")),
        seen=headers.get("x-last-failure-at"),
        expected=f"not before {headers.get('x-first-failure-at')}",
        place=f"{place}: x-last-failure-at",
    )


def _check_tool(tally: Tally, evidence: Evidence) -> None:
    tool = evidence["tool"]
    listed = tool["list"]["json"]
    seen = f"exit {tool['list']['exit']}, {len(listed) if isinstance(listed, list) else 'no'} rows"
    tally.equal("list", seen, f"exit 0, {tool['depth_expected']} rows")
    same = tool["list"]["json"] == tool["list_again"]["json"]
    looking = f"{tool['depth_after_looking']} letters, {'same' if same else 'other'} order"
    tally.equal("looking changes nothing", looking, f"{tool['depth_expected']} letters, same order")
    mine = evidence["failing"]["payments"]
    tally.judge(
        "inspect",
        tool["inspect"]["exit"] == 0 and mine in json.dumps(tool["inspect"]["json"]),
        seen=f"exit {tool['inspect']['exit']}",
        expected="exit 0 and the whole letter",
    )
    probe = tool["replayed_probe"]
    tally.judge(
        "replay",
        tool["replay"]["exit"] == 0 and bool(probe.get("processedAt")),
        seen=f"exit {tool['replay']['exit']}, processed at {probe.get('processedAt')}",
        expected="exit 0, and the event takes effect in its original queue",
    )
    refusal = f"exit {tool['purge_without_yes']['exit']}, {tool['depth_after_refusal']} letters"
    tally.equal("purge needs --yes", refusal, f"exit 2, {tool['depth_expected'] - 1} letters")
    if "skipped" in tool["purge"]:
        tally.unproven("purge", tool["purge"]["skipped"])
        return
    gone = tool["depth_after_refusal"] - tool["depth_after_purge"]
    expected = len(MALFORMED) + 1
    tally.equal("purge", f"exit {tool['purge']['exit']}, {gone} gone", f"exit 0, {expected} gone")
