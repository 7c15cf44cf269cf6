"""What is meant for the inside is not served at the edge, however it is spelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from harness.criterion import Access, Criterion
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, exchange, http_client
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import broker, pages, raw

CRITERION = Criterion(
    id="hidden-paths",
    area="edge",
    statement="Metrics, internal APIs, management, dotfiles and source maps MUST NOT be served at "
    "the edge.",
    gate="each first shown alive inside; at least 12 spellings each (encoded, //, /../, case, ;); "
    ".map of every asset referenced",
    rules=("R1.50", "R1.153", "R5.14"),
    needs=(Access.SERVICES, Access.DIAG, Access.AMQP),
    time_limit=120,
)

# Path at the edge → words that only the hidden answer holds.
HIDDEN = {
    "/metrics": "# TYPE",
    "/api/payments/metrics": "# TYPE",
    "/api/auth/internal/users": '"passwordHash"|"emailVerified"|"data":[',
    "/internal/users": '"data":[',
    "/api/auth/health/ready": '"checks"',
    "/api/overview": "rabbitmq_version",
    "/.env": "JWT_SECRET",
    "/.git/config": "repositoryformatversion",
}


def spellings(path: str) -> list[str]:
    """The path and other ways to write it that a careless server reads as the same."""
    head, tail = path[:-1], path[-1]
    first, _, rest = path[1:].partition("/")
    return list(
        dict.fromkeys(
            [
                path,
                f"{head}%{ord(tail):02X}",
                f"/%{ord(path[1]):02x}{path[2:]}",
                f"/{path}",
                path.replace("/", "//"),
                f"/x/..{path}",
                f"/x/%2e%2e{path}",
                f"/.{path}",
                f"{path}/",
                f"{path};x=1",
                f"{path}%3Bx",
                f"{path}?x=1",
                path.upper(),
                path.title(),
                f"{path}%20",
                f"{path}%00" if not rest else f"/{first}%2F{rest}",
                f"{path}/.",
                f"{path}#x".replace("#", "%23"),
            ]
        )
    )


def test_the_inside_stays_inside(trial: Trial) -> None:
    """Every spelling of every hidden path, and the source map of every asset."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Show each thing alive inside, then ask the edge for it in every spelling."""
    http = trial.target.http
    address = trial.exempt_address() if trial.target.addresses.exempt else ""
    alive = _alive(trial)
    with trial.client() as client:
        maps = [f"{asset}.map" for asset in pages.assets(client)]
        front = exchange(client, "GET", "/")["body"][:2000]
    trial.progress(f"{len(HIDDEN)} paths in every spelling")
    answers = {
        path: [raw.get(http.origin, s, ca=http.ca, address=address) for s in spellings(path)]
        for path in HIDDEN
    }
    return {
        "alive": alive,
        "answers": answers,
        "maps": [raw.get(http.origin, path, ca=http.ca, address=address) for path in maps],
        "front": front,
    }


def _alive(trial: Trial) -> dict[str, bool]:
    """What exists inside; each answered there with the words that must not be seen outside."""
    internal = trial.target.access.internal
    if internal is None:
        raise CouldNotObserve("the target file has no [access.internal]")
    token = {"X-Internal-Token": internal.token}
    amqp = broker.access(trial.target)

    def holds(client: httpx.Client, path: str, words: str, headers: Mapping[str, str]) -> bool:
        seen = exchange(client, "GET", path, headers=headers, body_limit=65536)
        return seen.status == 200 and any(w in seen["body"] for w in words.split("|"))

    with (
        http_client(trial.service("gateway")) as gateway,
        http_client(trial.service("auth")) as auth,
        http_client(trial.service("payments")) as payments,
        broker.management(amqp) as management,
    ):
        users = HIDDEN["/internal/users"]
        return {
            "/metrics": holds(gateway, "/metrics", "# TYPE", {}),
            "/api/payments/metrics": holds(payments, "/metrics", "# TYPE", {}),
            "/api/auth/internal/users": holds(auth, "/internal/users", users, token),
            "/internal/users": holds(auth, "/internal/users", users, token),
            "/api/auth/health/ready": holds(auth, "/health/ready", '"checks"', {}),
            "/api/overview": holds(management, "/api/overview", "rabbitmq_version", {}),
        }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Exact paths are 404 in the contracted words; no spelling shows what lies behind."""
    tally = Tally([*HIDDEN, "source maps"])
    for path, alive in evidence["alive"].items():
        tally.control(f"{path} is alive inside", alive, "not found there")
    for path, answers in evidence["answers"].items():
        enough = len(answers) >= limits["spellings"]
        if not enough:
            tally.doubt(f"{path}: {len(answers)} spellings, {limits['spellings']} needed")
        for answer in answers:
            _judge(tally, path, HIDDEN[path].split("|"), answer, exact=answer["path"] == path)
    for answer in evidence["maps"]:
        _judge(tally, "source maps", ['"mappings"'], answer, exact=True)
    tally.enough("source maps asked for", len(evidence["maps"]), 1)
    tally.figure("requests", sum(map(len, evidence["answers"].values())))
    return tally.outcome()


def _judge(
    tally: Tally, subject: str, words: list[str], answer: Mapping[str, Any], *, exact: bool
) -> None:
    """404 in the contracted words for the path itself; for a spelling also a page or a 400."""
    if answer["status"] in (0, 429) or answer["status"] >= 500:
        tally.unproven(subject, f"{answer['path']}: {answer['error'] or answer['status']}")
        tally.doubt(f"{answer['path']} was answered {answer['error'] or answer['status']}")
        return
    shown = [word for word in words if word in answer["body"]]
    place = f"GET {answer['path']}"
    tally.judge(
        subject,
        not shown,
        seen=f"{answer['status']} with {shown}",
        expected="nothing of it",
        place=place,
        severity="critical",
    )
    if exact:
        seen = f"{answer['status']} {answer.get('code', '')}".strip()
        tally.equal(subject, seen, "404 NOT_FOUND", place=place)
    else:
        page = answer["status"] == 200 and answer["media"].startswith("text/html")
        tally.judge(
            subject,
            page or 300 <= answer["status"] < 500,
            seen=f"{answer['status']} {answer['media']}",
            expected="404, another refusal, or the front page",
            place=place,
        )
