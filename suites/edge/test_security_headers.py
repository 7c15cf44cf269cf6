"""Every class of answer carries each security header once, with an allowed value."""

from __future__ import annotations

from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import Exchange, exchange, wait_until
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from security import headers, policies
from security.headers import AnswerClass
from suites.probes import accounts, pages

CRITERION = Criterion(
    id="security-headers",
    area="edge",
    statement="Every class of answer MUST carry exactly one of each required header with an "
    "allowed value.",
    gate="class × header, at least one sample per location of the edge and per service; control "
    "for 502/504",
    rules=("R1.5", "R1.6", "R5.23", "R5.24", "R5.25"),
    needs=(Access.CONTROL, Access.TWO),
    effects=(Effect.READS, Effect.DISRUPTS),
    time_limit=120,
)

# Class that the target may declare absent → the part it shows.
ABSENT = {"graphql": "graphql", "page: api docs": "api-docs", "api success: profile": "profile-api"}
BODY_LIMIT = 10 * 1024 * 1024


def test_every_class_of_answer_carries_the_headers(trial: Trial) -> None:
    """One proven sample of each class, judged against the policy file."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Ask for one answer of every class, the refused and broken ones included."""
    with trial.client() as client:
        admin = accounts.login_as(trial, client, "admin")
        customer = accounts.register(client, trial.prefix)
        classes = _classes(admin.headers, customer.headers, pages.assets(client))
        samples = headers.observe(client, classes)
        samples["429: api"] = _sample([429], "RATE_LIMIT_EXCEEDED", _limited(trial))
        trial.progress("with services stopped and paused")
        samples["502: api"] = _sample([502], "BAD_GATEWAY", _refused(trial, client, admin.headers))
        samples["504: api"] = _sample(
            [504], "GATEWAY_TIMEOUT", _silent(trial, client, admin.headers)
        )
        if trial.target.absence("graphql") is None:
            reply = exchange(
                client, "POST", "/graphql", headers=admin.headers, json={"query": "{__typename}"}
            )
            samples["graphql"] = _sample([200], "", reply)
        if trial.target.absence("api-docs") is None:
            samples["page: api docs"] = _sample([200], "", exchange(client, "GET", "/api-docs"))
        if trial.target.absence("profile-api") is None:
            reply = exchange(client, "GET", "/api/profile", headers=customer.headers)
            samples["api success: profile"] = _sample([200], "", reply)
    if trial.target.http.plain:
        with trial.client(base=trial.target.http.plain) as plain:
            samples["redirect"] = _sample([301], "", exchange(plain, "GET", "/api/payments?x=1"))
    absent = {name: why for name, part in ABSENT.items() if (why := trial.target.absence(part))}
    return {
        "samples": samples,
        "absent": absent,
        "origins": list(policies.own_origins(trial.target.http.origin)),
    }


def _classes(
    admin: dict[str, str], customer: dict[str, str], assets: list[str]
) -> list[AnswerClass]:
    json_media, html = "application/json", "text/html"
    audit = "/api/admin/audit-logs?limit=1"
    large = b'{"description": "' + b"x" * BODY_LIMIT + b'"}'
    as_json = {"Content-Type": "application/json"}
    found = [
        AnswerClass(name="page: front", path="/", media=html),
        AnswerClass(name="page: deep link", path="/payments/list", media=html),
        AnswerClass(name="page: offline", path="/offline.html", media=html),
        AnswerClass(name="asset: sw.js", path="/sw.js"),
        AnswerClass(name="asset: remote entry", path="/mfe/payments/remoteEntry.js"),
        AnswerClass(name="api success: auth", path="/api/auth/me", headers=admin),
        AnswerClass(name="api success: payments", path="/api/payments?limit=1", headers=admin),
        AnswerClass(name="api success: admin", path=audit, headers=admin),
        AnswerClass(
            name="api error: auth 401", path="/api/auth/me", status=(401,), code="UNAUTHORIZED"
        ),
        AnswerClass(
            name="api error: login 400", path="/api/auth/login", method="POST",
            json={}, status=(400,), code="VALIDATION_ERROR", media=json_media,
        ),
        AnswerClass(
            name="api error: payments 400", path="/api/payments?limit=0", headers=admin,
            status=(400,), code="VALIDATION_ERROR", media=json_media,
        ),
        AnswerClass(
            name="api error: admin 403", path=audit, headers=customer, status=(403,),
            code="FORBIDDEN",
        ),
        AnswerClass(
            name="api error: 404", path="/api/no-such-route", status=(404,), code="NOT_FOUND"
        ),
        AnswerClass(name="404: asset", path="/mfe/payments/none.js", status=(404,)),
        AnswerClass(name="404: hidden", path="/metrics", status=(404,), code="NOT_FOUND"),
        AnswerClass(
            name="413: edge", path="/api/payments", method="POST", headers={**admin, **as_json},
            body=large, status=(413,), code="PAYLOAD_TOO_LARGE",
        ),
        AnswerClass(
            name="413: service", path="/api/payments", method="POST",
            headers={**admin, **as_json}, body=large[:102_500], status=(413,),
            code="PAYLOAD_TOO_LARGE",
        ),
        AnswerClass(name="health", path="/health", media=json_media),
        AnswerClass(name="health: ready", path="/health/ready", media=json_media),
    ]  # fmt: skip
    found += [AnswerClass(name=f"asset: hashed {p}", path=p) for p in pages.hashed(assets)[:2]]
    return found


def _sample(status: list[int], code: str, answer: Exchange) -> dict[str, Any]:
    return {"status": status, "code": code, "media": "", "part": "", "exchange": answer}


def _limited(trial: Trial) -> Exchange:
    """The first refusal a fresh address gets."""
    with trial.client(trial.fresh_address()) as client:
        for _ in range(60):
            seen = exchange(client, "GET", "/api/auth/me")
            if seen.status in (0, 429):
                break
    return seen


def _refused(trial: Trial, client: httpx.Client, admin: dict[str, str]) -> Exchange:
    trial.control("payments", "stop")
    try:
        return exchange(client, "GET", "/api/payments?limit=1", headers=admin)
    finally:
        trial.control("payments", "start")
        _wait_until_well(client, admin)


def _silent(trial: Trial, client: httpx.Client, admin: dict[str, str]) -> Exchange:
    patience = trial.target.settings.upstream_timeout_ms / 1000 + 10
    with trial.client(timeout=patience) as patient:
        trial.control("payments", "pause")
        try:
            return exchange(patient, "GET", "/api/payments?limit=1", headers=admin)
        finally:
            trial.control("payments", "resume")
            _wait_until_well(client, admin)


def _wait_until_well(client: httpx.Client, admin: dict[str, str]) -> None:
    def well() -> bool:
        return exchange(client, "GET", "/api/payments?limit=1", headers=admin).status == 200

    wait_until(well, seconds=20, what="the payments service to be back", pause=0.2)


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each proven sample keeps the policy; an unproven class is missing."""
    samples = evidence["samples"]
    policy = headers.profile()
    tally = Tally([*samples, *ABSENT])
    tally.absences(evidence["absent"])
    judged = 0
    for name, sample in samples.items():
        if why := headers.unproven(sample):
            tally.unproven(name, why)
            continue
        tally.judge(name, True, seen="", expected="")
        judged += len(headers.required(name, policy))
        found = headers.judge(
            name, sample["exchange"]["headers"], policy, origins=evidence["origins"]
        )
        for finding in found:
            tally.judge(
                name,
                False,
                seen=finding.seen,
                expected=finding.expected,
                place=finding.place,
                severity=finding.severity,
            )
    tally.enough("classes", len(samples), limits["classes"])
    tally.figure("class × header", judged)
    return tally.outcome()
