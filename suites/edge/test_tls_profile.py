"""Only TLS 1.2 and 1.3 with the suites and curves of Mozilla's intermediate profile."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from harness.criterion import Criterion
from harness.evidence import Evidence
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Finding, Outcome
from security import tls

CRITERION = Criterion(
    id="tls-profile",
    area="edge",
    statement="The TLS port MUST speak TLS 1.2 and 1.3 only, within Mozilla's intermediate "
    "profile.",
    gate="every scan completed, at least one suite of each version accepted, no finding; the "
    "scanner flags a TLS 1.0 listener of its own; modern shown as goal",
    rules=("R5.2", "R5.3"),
    time_limit=90,
)

SUBJECTS = ("versions", "suites", "curves", "Mozilla intermediate", "weaknesses")


def test_the_listener_keeps_the_profile(trial: Trial) -> None:
    """Versions, suites, curves and weaknesses of the public listener."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Scan the origin, and a weak listener of our own that must be flagged."""
    origin = urlsplit(trial.target.http.origin)
    trial.progress("scanning")
    seen = tls.observe(origin.hostname or "", origin.port or 443, ca=trial.target.http.ca)
    with tls.weak_listener() as port:
        weak = tls.observe("localhost", port, address="127.0.0.1")
    return {"scan": seen, "weak": weak}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """The scan is whole, the canary flagged, and nothing outside the profile was accepted."""
    tally = Tally(SUBJECTS)
    level = tls.profile()["intermediate"]
    seen, weak = evidence["scan"], evidence["weak"]
    flagged = weak["connected"] and tls.judge_versions(weak, level)
    tally.control("the scanner flags a TLS 1.0 listener", bool(flagged), weak["reason"] or "clean")
    for what, why in tls.gaps(seen).items():
        tally.unproven(what, why)
        tally.doubt(f"{what} was not scanned: {why}")
    if not seen["connected"]:
        return tally.outcome()
    judged: dict[str, list[Finding]] = {
        "versions": tls.judge_versions(seen, level),
        "suites": tls.judge_suites(seen, level),
        "curves": tls.judge_curves(seen, level),
        "weaknesses": tls.judge_weaknesses(seen),
    }
    if "intermediate" in seen["mozilla"]:
        judged["Mozilla intermediate"] = tls.judge_mozilla(seen, "intermediate")
    for subject, findings in judged.items():
        tally.judge(subject, True, seen="", expected="")
        for found in findings:
            tally.judge(
                subject,
                False,
                seen=found.seen,
                expected=found.expected,
                place=found.place,
                severity=found.severity,
            )
    accepted = sum(len(suites) for suites in seen["versions"].values())
    tally.figure("suites accepted", accepted)
    modern = len(tls.judge_versions(seen, tls.profile()["modern"]))
    tally.figure("versions beyond modern (goal 0)", modern)
    return tally.outcome()
