"""Every operation does what its OpenAPI description says, whatever it is sent."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from security import contract_document, contract_fuzzing
from security.contract_document import NotADocument, Rule, unnamed
from security.contract_fuzzing import People, Plan
from security.contract_settings import Person
from suites.probes import accounts, administration
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="api-contract",
    area="api",
    statement="Every operation MUST conform to its OpenAPI 3.1 description, with valid and invalid "
    "data and from answer to answer, with two users as peers; nothing answers 5xx.",
    gate="operations = the contract's table; each at least one 2xx and one 4xx, ≥ 100 cases; ≥ 10 "
    "stateful links; no 429; 0 failures, fixed seed",
    rules=("R1.1", "R1.2", "R1.8", "R1.17", "R1.18", "R1.154"),
    needs=(Access.EXEMPT,),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=2400,
)

DOCUMENT = "/api-docs.json"
DOCS_PART = "api-docs"


def test_every_operation_keeps_its_description(trial: Trial) -> None:
    """Schemathesis over the whole document, with people of this run."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Read the document, try every operation as newcomers, and clear away what was made."""
    absent = {
        call: reason
        for call, row in contract_document.policy().operations.items()
        if row.part and (reason := trial.target.absence(row.part)) is not None
    }
    why = trial.target.absence(DOCS_PART)
    if why is not None and not trial.target.http.openapi:
        return {"absent": dict.fromkeys(contract_document.policy().operations, why)}
    with trial.client() as client:
        document = _document(trial, client)
        before = _accounts(trial, client)
        admin = accounts.login_as(trial, client, "admin")
        with _people(trial, client, admin) as people, _journal(trial, client) as journal:
            facts = contract_fuzzing.observe(
                Plan(
                    document=document,
                    origin=trial.target.http.origin,
                    ca=trial.target.http.ca,
                    address=trial.exempt_address(),
                    prefix=trial.prefix,
                    people=people,
                    protected=_protected(trial, admin),
                    examples=trial.limits["examples"],
                    most=trial.limits["coverage"],
                    time_limit=trial.limits["seconds"],
                    journal=journal,
                    webhook_secret=_webhook_secret(trial),
                ),
                trial.progress,
            )
            made, led = contract_fuzzing.read_journal(journal)
        return {
            "absent": absent,
            "openapi": document["openapi"],
            "described": [
                {"label": o.label, "input": o.has_input, "public": o.is_public}
                for o in contract_document.operations(document)
            ],
            "run": facts,
            "led": led,
            "made": {kind: len(names) for kind, names in made.items()},
            # Neither can be removed through the API.
            "left": {"payments": len(made["payment"]), "configuration": made["config"]},
            "controls": {"before": before, "after": _accounts(trial, client)},
            "webhooks_signed": bool(_webhook_secret(trial)),
        }


def _document(trial: Trial, client: httpx.Client) -> dict[str, Any]:
    """The document of the target file, or the one that the origin serves."""
    if given := trial.target.http.openapi:
        source, text = given, Path(given).read_bytes()
    else:
        source = DOCUMENT
        reply = client.get(DOCUMENT)
        if reply.status_code != 200:
            raise CouldNotObserve(
                f"GET {DOCUMENT}: seen {reply.status_code}, expected 200; serve it "
                "(API_DOCS_ENABLED), name a file as [http] openapi, or declare [parts] api-docs "
                "absent"
            )
        text = reply.content
    try:
        return contract_document.decode(text)
    except NotADocument as error:
        raise CouldNotObserve(f"{source} is no description of the API: {error}") from error


def _accounts(trial: Trial, client: httpx.Client) -> dict[str, str]:
    """What each account of the target file gets when it logs in; empty: a session."""
    seen = {}
    for who in trial.target.accounts:
        try:
            accounts.login_as(trial, client, who)
        except CouldNotObserve as error:
            seen[who] = str(error)
        else:
            seen[who] = ""
    return seen


def _protected(trial: Trial, admin: Session) -> tuple[str, ...]:
    addresses = (account.email for account in trial.target.accounts.values())
    return (admin.user_id, *(address.lower() for address in addresses))


def _webhook_secret(trial: Trial) -> str:
    granted = trial.target.access.webhooks
    return granted.secret if granted else ""


@contextlib.contextmanager
def _people(trial: Trial, client: httpx.Client, admin: Session) -> Iterator[People]:
    """Four newcomers and an administrator, who are deleted at the end."""
    there: list[Person] = []
    try:
        for _ in range(4):
            session = accounts.register(client, trial.prefix)
            there.append(Person(session.user_id, session.email, accounts.PASSWORD))
        there.append(_administrator(trial, client, admin))
        first, second, visitor, decoy, administrator = there
        yield People(first, second, administrator, visitor, decoy)
    finally:
        _delete(trial, client, [person.id for person in there])


def _administrator(trial: Trial, client: httpx.Client, admin: Session) -> Person:
    """An administrator of this run: the target's own never asks anything that is made up."""
    email = f"{trial.prefix}-{secrets.token_hex(5)}@trial.invalid"
    made = administration.create(client, admin, email, accounts.PASSWORD, "ADMIN")
    data = (made["json"] or {}).get("data") if isinstance(made["json"], dict) else None
    if made.status != 201 or not isinstance(data, dict):
        raise CouldNotObserve(
            f"create an administrator: seen {made['error'] or made.status} {made.code}, "
            "expected 201 with a user"
        )
    return Person(str(data["id"]), email, accounts.PASSWORD)


@contextlib.contextmanager
def _journal(trial: Trial, client: httpx.Client) -> Iterator[Path]:
    """The file that names what is made; the people in it are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="seatrial-contract-") as folder:
        path = Path(folder) / "journal"
        try:
            yield path
        finally:
            _delete(trial, client, contract_fuzzing.read_journal(path)[0]["user"])


def _delete(trial: Trial, client: httpx.Client, people: list[str]) -> None:
    """Delete people, of whom some are gone already; stops where the target is away."""
    # A whole run outlasts an access token.
    with contextlib.suppress(CouldNotObserve):
        admin = accounts.login_as(trial, client, "admin")
        for person in people:
            if administration.delete(client, admin, person).status == 0:
                return


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every operation of the table was tried enough, and nothing broke its description."""
    table = contract_document.policy().operations
    tally = Tally(table)
    tally.absences(evidence["absent"])
    if "run" not in evidence:
        return tally.outcome()
    run = evidence["run"]
    for when, seen in evidence["controls"].items():
        for who, trouble in seen.items():
            tally.control(f"{who} logs in {when}", not trouble, trouble)
    if not run["complete"]:
        tally.doubt(f"Schemathesis stopped: {run['stopped'] or 'killed'}")
    for error in run["errors"]:
        tally.doubt(f"Schemathesis could not go on: {error['title']} {error['message'][:160]}")
    described = {unnamed(one["label"]): one for one in evidence["described"]}
    _judge_document(tally, described, set(evidence["absent"]), evidence["openapi"])
    _judge_failures(tally, run["failures"], contract_document.policy().rules)
    enough = _judge_reach(tally, run["operations"], described, evidence, limits)
    tally.figure("operations", len(run["operations"]))
    tally.enough("stateful links", len(run["links"]), limits["links"])
    tally.enough("reads repeated by the peer", sum(run["peers"].values()), 1)
    cases = [seen["cases"] for seen in run["operations"].values()]
    tally.figure("cases", sum(cases))
    tally.figure(
        "cases of the least tried operation", min(cases), limit=limits["cases"], bound="lower"
    )
    tally.figure("time of Schemathesis", run["seconds"], "s")
    return tally.outcome(passed=f"{enough} operations, {sum(cases)} cases, 0 failures")


def _judge_document(
    tally: Tally, described: Mapping[str, Any], absent: set[str], version: str
) -> None:
    """The document names every operation of the table, and nothing else (R1.154)."""
    table = contract_document.policy().operations
    for call in table:
        if call not in described and call not in absent:
            tally.judge(call, False, seen="not described", expected="in the document (R1.154)")
    for call in described:
        if call not in table:
            expected = "only operations of the contract in the document (R1.154)"
            tally.judge(call, False, seen="described", expected=expected)
    if not version.startswith("3.1"):
        tally.judge("document", False, seen=f"OpenAPI {version}", expected="OpenAPI 3.1")


def _judge_failures(tally: Tally, failures: list[dict[str, Any]], rules: tuple[Rule, ...]) -> None:
    """Each failure is a finding, but for what a rule says that no document can say."""
    beyond: dict[str, int] = {}
    for failure in failures:
        if (rule := rule_of(failure, rules)) is not None:
            name = f"refused by {rule.rule} ({rule.says})"
            beyond[name] = beyond.get(name, 0) + failure["times"]
            continue
        server = failure["status"] >= 500
        tally.judge(
            unnamed(failure["operation"]),
            False,
            place=f"{failure['operation']}, {failure['check']}",
            seen=f"{failure['status']} {failure['code']}: {failure['title']}, "
            f"{failure['times']} times ({failure['reproduce']})",
            expected=_expected(failure["message"]),
            severity="critical" if server else "major",
        )
    for name, times in beyond.items():
        tally.figure(name, times)


def _expected(message: str) -> str:
    """What Schemathesis says it expected, as one line."""
    return " ".join(message.split())[:300] or "an answer that keeps the description"


def rule_of(failure: Mapping[str, Any], rules: tuple[Rule, ...]) -> Rule | None:
    """The rule by which a request was rightly refused; None when there is none."""
    for rule in rules:
        seen = (failure["check"], failure["status"], failure["code"])
        if seen != (rule.check, rule.status, rule.code):
            continue
        if unnamed(failure["operation"]) not in rule.calls:
            continue
        if not rule.at:
            return rule
        issues = failure["issues"]
        if issues and all(kind in rule.issues and place in rule.at for kind, place in issues):
            return rule
    return None


def _judge_reach(
    tally: Tally,
    operations: Mapping[str, Any],
    described: Mapping[str, Any],
    evidence: Evidence,
    limits: Limits,
) -> int:
    """Operations that were tried often enough, and answered both well and with a refusal."""
    enough = 0
    limited = sum(seen["statuses"].get("429", 0) for seen in operations.values())
    if limited:
        tally.doubt(f"{limited} answers were 429: a limiter stood between, expected none")
    for label, seen in operations.items():
        call = unnamed(label)
        statuses = seen["statuses"]
        lacks = []
        if seen["cases"] < limits["cases"]:
            lacks.append(f"{seen['cases']} cases, {limits['cases']} needed")
        if not _any(statuses, "2"):
            lacks.append("no 2xx")
        # An operation that takes nothing and asks for nobody has nothing to refuse.
        takes = described[call]["input"] or not described[call]["public"]
        if takes and not _any(statuses, "4"):
            lacks.append("no 4xx")
        if statuses.get("0"):
            lacks.append(f"{statuses['0']} requests without an answer")
        if lacks and call == "POST /api/webhooks/payments" and not evidence["webhooks_signed"]:
            lacks.append("[access.webhooks] secret would let notices be signed")
        if lacks:
            tally.unproven(call, "; ".join(lacks))
        else:
            enough += 1
            tally.judge(call, True, seen="", expected="")
    return enough


def _any(statuses: Mapping[str, int], first: str) -> bool:
    return any(times for status, times in statuses.items() if status.startswith(first))
