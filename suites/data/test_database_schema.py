"""The four databases have the contracted tables, and their constraints really refuse."""

from __future__ import annotations

import json
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import schema
from suites.probes.schema import Policy, Table

CRITERION = Criterion(
    id="database-schema",
    area="data",
    statement="Each database MUST have the contracted tables, columns, types, constraints and "
    "indexes, and a second migration run MUST change nothing.",
    gate="as section 2; at least one violating insert per constraint refused; the service's role "
    "cannot rewrite the audit log; a second migration run changes nothing",
    rules=("R0.19", "R1.142", "R2.1", "R2.2", "R2.3", "R2.20"),
    needs=(Access.DB,),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=120,
)

MIGRATE = "schema"  # the target's command that brings all schemas up to date
SECOND_RUN = "second migration run"
AUDIT = "audit log"
NOT_NULL, UNIQUE, FOREIGN, CHECK, ENUM = "23502", "23505", "23503", "23514", "22P02"
# SQLSTATEs of "may not": privilege, or a trigger that raises.
MAY_NOT = ("42501", "P0001", "0A000")


def test_the_databases_are_as_contracted(trial: Trial) -> None:
    """Catalogue, violating inserts in a transaction that is rolled back, a second migration."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Read each catalogue, try to break each constraint, migrate again, read again."""
    access = trial.target.access.db
    found: dict[str, Any] = {}
    for service, policy in schema.policies().items():
        if service not in access:
            continue
        trial.progress(f"{service}_db")
        try:
            with psycopg.connect(access[service].url, connect_timeout=5) as connection:
                seen = schema.read(connection)
                found[service] = {"schema": seen, "refused": _violations(connection, policy)}
                connection.rollback()
        except psycopg.OperationalError as error:
            raise CouldNotObserve(f"{service}_db: {error}") from error
    if not found:
        raise CouldNotObserve("no [access.db.<service>] was granted")
    return {
        "databases": found,
        "audit": _rewriting(access["admin"].service_url) if "admin" in access else None,
        "again": _migrate_again(trial, found),
    }


def _violations(connection: psycopg.Connection[Any], policy: Policy) -> dict[str, str]:
    """Constraint → SQLSTATE of the insert that breaks it ("accepted" where it was let in)."""
    answers: dict[str, str] = {}
    for name, table in policy.tables.items():
        try:
            with connection.transaction(force_rollback=True):
                good = _row(connection, policy, name)
                _insert(connection, name, good)
        except psycopg.Error as error:
            answers[f"{name}: a good row"] = error.sqlstate or type(error).__name__
            continue
        answers[f"{name}: a good row"] = "accepted"
        for constraint, wrong in _wrong_rows(table):
            answers[f"{name}: {constraint}"] = _try(connection, policy, name, wrong)
    return answers


def _wrong_rows(table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to change in a good row; an empty change stands for the same row once more."""
    for name, column in table.columns.items():
        if not column.nullable:
            yield f"{name} not null", {name: None}
        if column.foreign is not None:
            yield f"{name} references {column.foreign[0]}", {name: str(uuid.uuid4())}
        if column.kind[0].isupper():
            yield f"{name} is a {column.kind}", {name: "nonsense"}
    for name, value in table.check.items():
        yield f"{name} checked", {name: value}
    for columns in table.unique_sets:
        yield f"unique ({', '.join(columns)})", {"=": columns}


def _try(
    connection: psycopg.Connection[Any], policy: Policy, name: str, wrong: Mapping[str, Any]
) -> str:
    try:
        with connection.transaction(force_rollback=True):
            row = _row(connection, policy, name)
            if "=" in wrong:
                _insert(connection, name, row)
                other = _row(connection, policy, name)
                row = {**other, **{c: row[c] for c in wrong["="]}}
            else:
                row = {**row, **wrong}
            _insert(connection, name, row)
    except psycopg.Error as error:
        return error.sqlstate or type(error).__name__
    return "accepted"


def _row(connection: psycopg.Connection[Any], policy: Policy, name: str) -> dict[str, Any]:
    """A good row; the rows it refers to are inserted."""
    table = policy.tables[name]
    row: dict[str, Any] = {}
    for column, said in table.columns.items():
        if column in table.sample:
            row[column] = table.sample[column]
        elif said.foreign is not None and not said.nullable:
            parent = _row(connection, policy, said.foreign[0])
            _insert(connection, said.foreign[0], parent)
            row[column] = parent["id"]
        elif said.kind in policy.enums:
            row[column] = policy.enums[said.kind][0]
        elif not said.nullable or said.unique:
            row[column] = _SAMPLES[said.kind]()
    for column in table.sample:
        # Samples of unique columns must differ from row to row.
        if any(column in names for names in table.unique_sets if len(names) == 1):
            row[column] = uuid.uuid4().hex * 2
    return row


_SAMPLES: dict[str, Callable[[], Any]] = {
    "text": lambda: str(uuid.uuid4()),
    "*": lambda: str(uuid.uuid4()),
    "boolean": lambda: False,
    "integer": lambda: 1,
    "bigint": lambda: uuid.uuid4().int % 2**40 + 2**41,
    "numeric": lambda: "1.00",
    "timestamptz": lambda: "2026-01-01T00:00:00Z",
    "jsonb": lambda: "{}",
}


def _insert(connection: psycopg.Connection[Any], table: str, row: Mapping[str, Any]) -> None:
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)),
        ),
        list(row.values()),
    )


def _rewriting(service_url: str) -> dict[str, str] | None:
    """Act → how the admin service's own role was answered; None without its URL."""
    if not service_url:
        return None
    answers = {}
    with psycopg.connect(service_url, connect_timeout=5) as connection:
        for act, statement in {
            "update": "UPDATE audit_logs SET action = action",
            "delete": "DELETE FROM audit_logs",
            "truncate": "TRUNCATE audit_logs",
            "drop": "DROP TABLE audit_logs",
            "disable triggers": "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
            "read": "SELECT count(*) FROM audit_logs",
        }.items():
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement)
                answers[act] = "accepted"
            except psycopg.Error as error:
                answers[act] = error.sqlstate or type(error).__name__
    return answers


def _migrate_again(trial: Trial, before: Mapping[str, Any]) -> dict[str, Any] | None:
    """Run the target's migration command once more and compare; None when it names none."""
    command = trial.target.commands.get(MIGRATE)
    if not command:
        return None
    trial.progress("a second migration run")
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=90)
    changed = []
    for service, seen in before.items():
        with psycopg.connect(trial.target.access.db[service].url, connect_timeout=5) as connection:
            if schema.read(connection) != seen["schema"]:
                changed.append(service)
    tail = (done.stderr or done.stdout).strip()[-300:]
    return {"code": done.returncode, "changed": changed, "tail": tail}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Everything contracted is there and refuses; nobody rewrites; migrating again is idle."""
    policies = schema.policies()
    tally = Tally(
        [
            *(f"{service}.{table}" for service, p in policies.items() for table in p.tables),
            *(f"{service} constraints" for service in policies),
            AUDIT,
            SECOND_RUN,
        ]
    )
    refused = 0
    for service, seen in evidence["databases"].items():
        policy = policies[service]
        for name, table in policy.tables.items():
            _judge_table(tally, f"{service}.{name}", table, seen["schema"], name)
        for enum, labels in policy.enums.items():
            tally.equal(
                f"{service} constraints",
                seen["schema"]["enums"].get(enum),
                labels,
                place=f"{service}: enum {enum}",
            )
        refused += _judge_refusals(tally, service, policy, seen["refused"])
    _judge_audit(tally, evidence["audit"])
    again = evidence["again"]
    if again is None:
        tally.unproven(SECOND_RUN, f"the target file names no [commands] {MIGRATE}")
    else:
        tally.equal(SECOND_RUN, again["code"], 0, place=f"{SECOND_RUN}: exit ({again['tail']})")
        tally.equal(SECOND_RUN, again["changed"], [], place=f"{SECOND_RUN}: changed databases")
    tally.figure("violating inserts refused", refused)
    return tally.outcome()


def _judge_table(
    tally: Tally, subject: str, table: Table, seen: Mapping[str, Any], name: str
) -> None:
    columns = seen["columns"].get(name)
    if columns is None:
        tally.judge(subject, False, seen="no such table", expected="the contracted table")
        return
    indexes = [i for i in seen["indexes"] if i["table"] == name]
    whole = [tuple(i["columns"]) for i in indexes if not i["partial"]]
    for column, said in table.columns.items():
        have = columns.get(column)
        place = f"{subject}.{column}"
        if have is None:
            tally.judge(subject, False, seen="no such column", expected=said.kind, place=place)
            continue
        if said.kind != "*":
            tally.equal(subject, have["kind"], said.kind, place=f"{place}: type")
        tally.equal(subject, have["nullable"], said.nullable, place=f"{place}: nullable")
        if said.default:
            tally.equal(subject, have["default"], True, place=f"{place}: default")
        if said.indexed:
            led = any(i["columns"][:1] == [column] for i in indexes)
            tally.equal(subject, led, True, place=f"{place}: an index begins with it")
        if said.foreign is not None:
            references, action = said.foreign
            found = [
                [f["references"], f["delete"]]
                for f in seen["foreign"]
                if (f["table"], f["column"]) == (name, column)
            ]
            tally.equal(subject, found, [[references, action]], place=f"{place}: foreign key")
    for names in table.unique_sets:
        unique = [tuple(i["columns"]) for i in indexes if i["unique"] and not i["partial"]]
        there = any(sorted(u) == sorted(names) for u in unique)
        tally.equal(subject, there, True, place=f"{subject}: unique ({', '.join(names)})")
    tally.judge(subject, bool(whole), seen="no index at all", expected="at least its primary key")


def _judge_refusals(tally: Tally, service: str, policy: Policy, answers: Mapping[str, str]) -> int:
    subject = f"{service} constraints"
    for name, table in policy.tables.items():
        good = answers.get(f"{name}: a good row", "not tried")
        if not tally.control(f"{service}: a good row enters {name}", good == "accepted", good):
            continue
        for constraint, _ in _wrong_rows(table):
            key = f"{name}: {constraint}"
            expected = _sqlstate(constraint)
            # A value that breaks two constraints is refused by either.
            seen = answers.get(key, "not tried")
            ok = seen == expected or (seen == CHECK and expected in (NOT_NULL, UNIQUE, FOREIGN))
            tally.judge(
                subject,
                ok,
                seen=seen,
                expected=f"refused with SQLSTATE {expected}",
                place=f"{service}, {key}",
            )
    return sum(answer != "accepted" for answer in answers.values())


def _sqlstate(constraint: str) -> str:
    if constraint.startswith("unique"):
        return UNIQUE
    if " references " in constraint:
        return FOREIGN
    if " is a " in constraint:
        return ENUM
    return CHECK if constraint.endswith(" checked") else NOT_NULL


def _judge_audit(tally: Tally, answers: Mapping[str, str] | None) -> None:
    if answers is None:
        tally.unproven(AUDIT, "the target file names no [access.db.admin] service_url")
        return
    if not tally.control("the admin service reads its log", answers["read"] == "accepted", answers):
        return
    rewritten = {act: a for act, a in answers.items() if act != "read" and a not in MAY_NOT}
    tally.equal(AUDIT, json.dumps(rewritten), "{}", place=f"{AUDIT}: acts of the service's role")
