"""A run: its folder, its result file, its exit code and the lock that keeps a second run away."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.criterion import Criterion
from harness.redaction import redact_text
from harness.target import Target
from harness.verdict import Figure, Finding, Outcome, Verdict

SCHEMA = 1

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_INCONCLUSIVE = 8


class VerdictEntry(msgspec.Struct, frozen=True):
    """One criterion in verdicts.json; see the run folder's reference for each field."""

    criterion: str
    area: str
    statement: str
    gate: str
    verdict: Verdict
    reason: str
    n: int
    m: int
    figures: tuple[Figure, ...]
    seen: str
    expected: str
    evidence: tuple[str, ...]
    reproduce: str
    findings: tuple[Finding, ...] = ()
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    absent: dict[str, str] = msgspec.field(default_factory=dict)
    shortened: tuple[str, ...] = ()
    seconds: float = 0.0


class ThresholdsNote(msgspec.Struct, frozen=True):
    """Which thresholds decided: file and SHA-256."""

    file: str
    sha256: str


class TargetNote(msgspec.Struct, frozen=True):
    """Which target was judged."""

    name: str
    origin: str
    file: str = ""


class RunResult(msgspec.Struct, frozen=True, rename={"schema_number": "schema"}):
    """verdicts.json: the whole result of a run."""

    schema_number: int
    run: str
    target: TargetNote
    profile: str
    thresholds: ThresholdsNote
    started: str
    finished: str
    environment: dict[str, Any]
    exit: int
    verdicts: tuple[VerdictEntry, ...]


class RunLocked(Exception):
    """Another run judges the same target at this moment."""


def entry(
    criterion: Criterion,
    outcome: Outcome,
    *,
    reproduce: str,
    shortened: Sequence[str] = (),
    seconds: float = 0.0,
) -> VerdictEntry:
    """The result entry of a criterion: n judged of m subjects, texts redacted."""
    return VerdictEntry(
        criterion=criterion.id,
        area=criterion.area,
        statement=criterion.statement,
        gate=criterion.gate,
        verdict=outcome.verdict,
        reason=redact_text(outcome.reason),
        n=len(outcome.judged),
        m=len({*outcome.judged, *outcome.missing, *outcome.absent}),
        figures=outcome.figures,
        seen=redact_text(outcome.seen),
        expected=redact_text(outcome.expected),
        evidence=outcome.evidence,
        reproduce=redact_text(reproduce),
        findings=tuple(
            Finding(f.place, redact_text(f.seen), redact_text(f.expected), f.severity)
            for f in outcome.findings
        ),
        missing=dict(outcome.missing),
        absent=dict(outcome.absent),
        shortened=tuple(shortened),
        seconds=round(seconds, 2),
    )


def exit_code(verdicts: Iterable[VerdictEntry]) -> int:
    """The run's exit code: 1 with a FAIL; 8 with an inconclusive or an area without a PASS; else 0.

    A WAIVED criterion counts as passed. An area whose every criterion is not applicable has no
    PASS and gives 8: nothing was shown there.
    """
    entries = list(verdicts)
    if any(e.verdict is Verdict.FAIL for e in entries):
        return EXIT_FAILED
    if not entries or any(e.verdict is Verdict.INCONCLUSIVE for e in entries):
        return EXIT_INCONCLUSIVE
    earned = {e.area for e in entries if e.verdict in (Verdict.PASS, Verdict.WAIVED)}
    return EXIT_PASSED if earned == {e.area for e in entries} else EXIT_INCONCLUSIVE


def new_run_id(now: datetime | None = None) -> str:
    """A run's id: UTC time and four random hex digits, sortable by time."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{secrets.token_hex(2)}"


def timestamp() -> str:
    """Now, as the result file writes times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def environment(root: Path) -> dict[str, Any]:
    """What the run stood on: versions, machine, commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count() or 0,
        "commit": _commit(root),
        "command": redact_text(" ".join(["pytest", *sys.argv[1:]])),
    }


def _commit(root: Path) -> str:
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def write_result(folder: Path, result: RunResult) -> Path:
    """Write verdicts.json and exit_code at once (a reader never sees half a file)."""
    path = folder / "verdicts.json"
    draft = folder / "verdicts.json.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    draft.replace(path)
    (folder / "exit_code").write_text(f"{result.exit}\n", encoding="utf-8")
    return path


def read_result(folder: Path) -> RunResult:
    """Read a run's verdicts.json.

    Raises:
        OSError: there is none.
        msgspec.ValidationError: it is not of this schema.
    """
    return msgspec.json.decode((folder / "verdicts.json").read_bytes(), type=RunResult)


class TargetLock:
    """Held while a run judges a target; the system frees it when the process dies.

    It is a socket in the abstract namespace: seen by the whole machine, and no file is left.

    Args:
        target: its origin names the lock.
    """

    def __init__(self, target: Target) -> None:
        self.digest = hashlib.sha256(target.http.origin.encode()).hexdigest()[:16]
        self._socket: socket.socket | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunLocked: another run on this machine holds it.
        """
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(f"\0seatrial-run-{self.digest}")
        except OSError:
            held.close()
            raise RunLocked(
                "another run on this machine judges this target; wait for it or end it"
            ) from None
        self._socket = held

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
