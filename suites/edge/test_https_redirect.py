"""Plain HTTP leads to HTTPS: same path, same query, never to a host an attacker names."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from harness.criterion import Criterion
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, exchange, header_values
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome

CRITERION = Criterion(
    id="https-redirect",
    area="edge",
    statement="Plain HTTP MUST answer 301 to the same path and query over HTTPS.",
    gate="at least 12 paths incl. query, /ws and /api; a forged Host goes to the first "
    "configured host",
    rules=("R5.1", "R5.25"),
)

PATHS = (
    "/",
    "/?page=2",
    "/api/payments?limit=5&sort=amount",
    "/api/auth/me",
    "/api/unknown",
    "/ws",
    "/ws?x=1",
    "/graphql",
    "/health",
    "/health/ready",
    "/assets/app.js",
    "/a%20b/%C3%A9?q=%26",
    "/mfe/payments/remoteEntry.js",
    "/.well-known/security.txt",
)
FORGED = "evil.example"


def test_plain_http_leads_to_https(trial: Trial) -> None:
    """Every path of the plain port is answered 301 to itself over HTTPS."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Ask the plain port for each path, by GET and once by POST, and once with a forged Host."""
    if not trial.target.http.plain:
        raise CouldNotObserve("the target file has no http.plain")
    own = urlsplit(trial.target.http.origin)
    with trial.client(base=trial.target.http.plain) as client:
        replies = {path: exchange(client, "GET", path) for path in PATHS}
        posted = exchange(client, "POST", "/api/auth/login", json={"a": 1})
        forged = exchange(client, "GET", "/api/payments?x=1", headers={"Host": FORGED})
    return {
        "origin": f"{own.scheme}://{own.netloc}",
        "replies": replies,
        "posted": posted,
        "forged": forged,
    }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each reply is 301 with exactly one Location: the origin and the unchanged path and query."""
    tally = Tally([*PATHS, "POST /api/auth/login", f"Host: {FORGED}"])
    origin = evidence["origin"]
    cases = [(path, path, reply) for path, reply in evidence["replies"].items()]
    cases.append(("POST /api/auth/login", "/api/auth/login", evidence["posted"]))
    cases.append((f"Host: {FORGED}", "/api/payments?x=1", evidence["forged"]))
    for subject, path, reply in cases:
        if reply["error"]:
            tally.unproven(subject, reply["error"])
            continue
        seen = f"{reply['status']} to {', '.join(header_values(reply, 'location')) or 'nowhere'}"
        tally.equal(subject, seen, f"301 to {origin}{path}")
    answered = sum(1 for reply in evidence["replies"].values() if not reply["error"])
    tally.enough("paths answered", answered, limits["paths"])
    return tally.outcome()
