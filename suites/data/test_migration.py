"""The legacy database moves into the four new ones, exactly, repeatably, and back."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import migration
from suites.probes.migration import Tool

CRITERION = Criterion(
    id="migration",
    area="data",
    statement="A legacy database of at least 100,000 rows MUST move into the four databases with "
    "equal checksums, repeatably and transactionally, and rollback and backup MUST restore.",
    gate="exact: backup → export → import → validate → rollback; one damaged row is found; a "
    "damaged file changes nothing",
    rules=("R9.6", "R9.9", "R9.10", "R9.11", "R9.12", "R9.14"),
    needs=(Access.DB,),
    parts=("migration",),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=600,
)

SERVICES = ("auth", "payments", "admin", "profile")
# Subject → the steps it is judged by; each must have ended with this exit code.
STEPS = {
    "backup": {"backup": 0},
    "export": {"export": 0},
    "dry run": {"dry run": 0},
    "import": {"import": 0, "validate": 0},
    "repeatable": {"import again": 0, "validate again": 0},
    "damaged row found": {"validate damaged": 1, "validate mended": 0},
    "damaged file refused": {"rollback profile": 0, "import damaged": 1, "import mended": 0},
    "rollback": {f"rollback {service} at the end": 0 for service in SERVICES},
    "backup restores": {"restore": 0},
}
OWN = "rows compared without the tool"
EVENTS = "no events"


def test_the_legacy_database_moves_and_comes_back(trial: Trial) -> None:
    """Every step of the way, with the rows counted before and after each."""
    # The whole way takes most of a minute and ends where it began; once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Go the whole way and back, and write down exit codes and counts."""
    urls = {service: db.url for service, db in trial.target.access.db.items()}
    if missing := [service for service in SERVICES if service not in urls]:
        raise CouldNotObserve(f"no [access.db] of {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="seatrial-migration-") as folder:
        tool = Tool(trial.target, Path(folder))
        try:
            trial.progress(f"a legacy database of {trial.limits['rows']:,} rows")
            tool.generate(trial.limits["rows"])
            return _Way(trial, tool, urls).go()
        finally:
            tool.legacy("down")


class _Way:
    """The way there and back, step by step."""

    def __init__(self, trial: Trial, tool: Tool, urls: dict[str, str]) -> None:
        self._trial = trial
        self._tool = tool
        self._urls = urls
        self._steps: dict[str, dict[str, Any]] = {}

    def go(self) -> dict[str, Any]:
        """All steps; what was imported is taken out again whatever happens."""
        legacy = migration.legacy_counts(self._tool.legacy_url)
        before = migration.counts(self._urls)
        outbox = self._outbox()
        try:
            self._step("backup", "backup")
            self._step("export", "export")
            files = self._files()
            self._step("dry run", "import", "--dry-run")
            dry = migration.counts(self._urls)
            self._step("import", "import")
            imported = migration.counts(self._urls)
            self._step("validate", "validate")
            sums = migration.sums(self._tool.legacy_url, self._urls)
            self._step("import again", "import")
            again = migration.counts(self._urls)
            self._step("validate again", "validate")
            events = self._outbox() - outbox
            damaged = self._damage_a_row()
            refused = self._damage_a_file()
        finally:
            # Payments refer to users, so they go first.
            for service in ("profile", "admin", "payments", "auth"):
                self._step(f"rollback {service} at the end", "rollback", service, "--yes")
        after = migration.counts(self._urls)
        self._restore()
        return {
            "legacy": legacy,
            "steps": self._steps,
            "files": files,
            "counts": {
                "before": before,
                "dry": dry,
                "imported": imported,
                "again": again,
                "after": after,
            },
            "sums": sums,
            "events": events,
            "damaged": damaged,
            "refused": refused,
        }

    def _step(self, name: str, *arguments: str) -> None:
        self._trial.progress(name)
        self._steps[name] = self._tool.migrate(*arguments)

    def _outbox(self) -> int:
        total = 0
        for url in self._urls.values():
            with psycopg.connect(url, connect_timeout=5) as connection:
                row = connection.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()
                total += int(row[0]) if row else 0
        return total

    def _files(self) -> list[dict[str, Any]]:
        """Every file the tool wrote, and whether anybody but the owner may read it."""
        return [
            {
                "name": str(path.relative_to(self._tool.folder)),
                "bytes": path.stat().st_size,
                "others": bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)),
            }
            for path in sorted(self._tool.folder.rglob("*"))
            if path.is_file()
        ]

    def _damage_a_row(self) -> dict[str, Any]:
        """Change one character of one payment, validate, change it back, validate."""
        with psycopg.connect(self._tool.legacy_url, connect_timeout=5) as legacy:
            row = legacy.execute(
                "SELECT id, description FROM payments WHERE length(description) > 1 "
                "ORDER BY id LIMIT 1"
            ).fetchone()
        if row is None:
            raise CouldNotObserve("the legacy database has no payment with a description")
        payment, text = row
        self._describe(payment, text[:-1] + ("x" if text[-1] != "x" else "y"))
        self._step("validate damaged", "validate")
        self._describe(payment, text)
        self._step("validate mended", "validate")
        return {"id": payment, "named": payment in self._steps["validate damaged"]["tail"]}

    def _describe(self, payment: str, text: str) -> None:
        with psycopg.connect(self._urls["payments"], connect_timeout=5) as connection:
            # As replica no trigger sets updated_at, so exactly one value differs.
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "UPDATE payments SET description = %s WHERE id = %s", (text, payment)
            )

    def _damage_a_file(self) -> dict[str, Any]:
        """Import profiles from a file with one changed row: refused, and nothing imported."""
        self._step("rollback profile", "rollback", "profile", "--yes")
        empty = migration.counts(self._urls)
        file = next(self._tool.folder.rglob("profile-data.json"))
        good = file.read_bytes()
        document = json.loads(good)
        document["userProfiles"][0]["bio"] = "changed"
        file.write_bytes(json.dumps(document).encode())
        self._step("import damaged", "import", "profile")
        refused = migration.counts(self._urls)
        file.write_bytes(good)
        self._step("import mended", "import", "profile")
        return {"before": empty, "after": refused}

    def _restore(self) -> None:
        """Restore the legacy dump into a database of its own and count its rows."""
        self._trial.progress("a backup is restored")
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_restore"))
        program = shutil.which("pg_restore") or (str(programs[-1]) if programs else "")
        dumps = [path for path in self._tool.folder.rglob("*.dump") if "legacy" in path.name]
        self._steps["restore"] = (
            migration.restored(self._tool.legacy_url, program, dumps[-1])
            if program and dumps
            else {"code": -1, "tail": f"pg_restore: {program or 'not found'}; dumps: {dumps}"}
        )


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each step ended as it must, counts tell the same, and our own comparison agrees."""
    tally = Tally([*STEPS, OWN, EVENTS])
    rows = sum(evidence["legacy"].values())
    tally.enough("legacy rows", rows, limits["rows"])
    steps = evidence["steps"]
    for subject, wanted in STEPS.items():
        for name, code in wanted.items():
            if name in steps:
                tally.equal(
                    subject,
                    steps[name]["code"],
                    code,
                    place=f"{name}: exit code ({steps[name]['tail'][-160:]})",
                )
    counts = evidence["counts"]
    tally.equal("dry run", counts["dry"], counts["before"], place="rows after the dry run")
    tally.equal("repeatable", counts["again"], counts["imported"], place="rows after a second run")
    tally.equal("rollback", counts["after"], counts["before"], place="rows after the rollback")
    for table, (service, there) in migration.TABLES.items():
        key = f"{service}.{there}"
        # Rows of the same key that were there before (configuration) stay as they are.
        grown = counts["imported"][key] - counts["before"][key]
        least = evidence["legacy"][table] - (counts["before"][key] if "config" in table else 0)
        tally.judge(
            "import",
            least <= grown <= evidence["legacy"][table],
            seen=f"{grown} rows more",
            expected=f"{evidence['legacy'][table]} rows of legacy {table}",
            place=f"import: {key}",
        )
    readable = [file["name"] for file in evidence["files"] if file["others"]]
    tally.equal("export", readable, [], place="files others may read")
    tally.equal("backup", any(f["name"].endswith(".dump") for f in evidence["files"]), True)
    for name, (legacy, here) in evidence["sums"].items():
        tally.equal(OWN, here, legacy, place=name)
    tally.equal(EVENTS, evidence["events"], 0, place="outbox rows written by the import")
    tally.equal(
        "damaged row found", evidence["damaged"]["named"], True, place="the damaged row is named"
    )
    refused = evidence["refused"]
    tally.equal(
        "damaged file refused", refused["after"], refused["before"], place="rows after the refusal"
    )
    for name in ("export", "import", "validate"):
        tally.figure(name, steps[name]["seconds"], "s")
    return tally.outcome(passed=f"{rows:,} rows there and back")
