"""Each service owns its database alone."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from harness.criterion import Access, Criterion
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome

CRITERION = Criterion(
    id="database-isolation",
    area="data",
    statement="Each service MUST own its database: its credentials open no other one, and no "
    "database refers to another.",
    gate="12 foreign connections refused by authentication, 4 own accepted; roles are not "
    "superuser; 0 foreign servers, dblink and postgres_fdw",
    rules=("R0.12", "R0.19", "R2.1"),
    needs=(Access.DB,),
)

SERVICES = ("auth", "payments", "admin", "profile")
PAIRS = [f"{a} → {b}" for a, b in itertools.permutations(SERVICES, 2)]
# PostgreSQL: class 28 is "invalid authorization", 42501 "insufficient privilege" (no CONNECT).
REFUSALS = ("28000", "28P01", "42501")
FOREIGN = ("dblink", "postgres_fdw", "file_fdw")


def test_no_service_opens_the_database_of_another(trial: Trial) -> None:
    """Own connections work, foreign ones are refused, no link leads out of a database."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Connect with each service's role to each database; read roles and links as superuser."""
    access = trial.target.access.db
    urls = {name: db.service_url for name, db in access.items() if db.service_url}
    if not urls:
        raise CouldNotObserve("no [access.db.<service>] has a service_url")
    return {
        "own": {name: _connect(url) for name, url in urls.items()},
        "foreign": {
            f"{a} → {b}": _connect(_elsewhere(urls[a], access[b].url))
            for a, b in itertools.permutations(urls, 2)
        },
        "roles": {name: _roles(url) for name, url in urls.items()},
        "links": {name: _links(db.url) for name, db in access.items()},
    }


def _elsewhere(url: str, other: str) -> str:
    """The credentials of one URL at the server and database of another."""
    mine, there = urlsplit(url), urlsplit(other)
    place = f"{mine.username}:{mine.password}@{there.hostname}:{there.port}"
    return urlunsplit(("postgresql", place, there.path, "", ""))


def _connect(url: str) -> dict[str, str]:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute("SELECT current_user || '@' || current_database()").fetchone()
    except psycopg.OperationalError as error:
        return {"answer": _refusal(error), "text": str(error).strip()[:300]}
    return {"answer": "accepted", "text": str(row[0]) if row else ""}


def _refusal(error: psycopg.OperationalError) -> str:
    """libpq gives no SQLSTATE for a failed connection, so the server's words are read."""
    text = str(error)
    if error.sqlstate in REFUSALS:
        return "refused"
    words = ("password authentication failed", "no pg_hba.conf entry", "permission denied")
    if any(word in text for word in words) or ('role "' in text and "does not exist" in text):
        return "refused"
    return "no answer"


def _roles(url: str) -> dict[str, Any]:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls "
                "FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            owned = connection.execute(
                "SELECT count(*) FROM pg_class WHERE relowner = "
                "(SELECT oid FROM pg_roles WHERE rolname = current_user)"
            ).fetchone()
    except psycopg.OperationalError as error:
        return {"error": str(error).strip()[:300]}
    names = ("superuser", "createrole", "createdb", "replication", "bypassrls")
    powers = [name for name, held in zip(names, row or (), strict=False) if held]
    return {"powers": powers, "owned": int(owned[0]) if owned else -1}


def _links(url: str) -> dict[str, Any]:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            extensions = connection.execute("SELECT extname FROM pg_extension").fetchall()
            servers = connection.execute("SELECT srvname FROM pg_foreign_server").fetchall()
    except psycopg.OperationalError as error:
        return {"error": str(error).strip()[:300]}
    return {"extensions": [r[0] for r in extensions], "servers": [r[0] for r in servers]}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Own accepted, foreign refused by authentication, roles plain, no links."""
    tally = Tally(
        [
            *(f"own {name}" for name in SERVICES),
            *PAIRS,
            *(f"role of {name}" for name in SERVICES),
            *(f"links of {name}" for name in SERVICES),
        ]
    )
    for name, seen in evidence["own"].items():
        if tally.control(f"{name} opens its own database", seen["answer"] == "accepted", seen):
            tally.equal(f"own {name}", seen["answer"], "accepted")
    for pair, seen in evidence["foreign"].items():
        if seen["answer"] == "no answer":
            tally.unproven(pair, seen["text"])
        else:
            tally.equal(pair, seen["answer"], "refused", place=f"connection {pair}")
    for name, seen in evidence["roles"].items():
        if "error" in seen:
            tally.unproven(f"role of {name}", seen["error"])
            continue
        subject = f"role of {name}"
        tally.equal(subject, ", ".join(seen["powers"]) or "no powers", "no powers")
        tally.equal(subject, f"owns {seen['owned']} objects", "owns 0 objects")
    for name, seen in evidence["links"].items():
        if "error" in seen:
            tally.unproven(f"links of {name}", seen["error"])
            continue
        found = [*seen["servers"], *(e for e in seen["extensions"] if e in FOREIGN)]
        tally.equal(f"links of {name}", ", ".join(found) or "none", "none")
    return tally.outcome()
