"""Each limit on bodies lets its exact size through and refuses one byte more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import Exchange, error_code, exchange
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, metrics
from suites.probes.accounts import PASSWORD, Session

CRITERION = Criterion(
    id="body-limit",
    area="edge",
    statement="Each limit on request bodies (edge 10 MiB, profile 5 MiB, others 100 KiB) MUST let "
    "its exact size reach the handler and refuse one byte more with 413 and envelope.",
    gate="three places, judged by who answered; gateway memory flat ± 16 MiB",
    rules=("R1.10", "R5.26", "R5.30"),
    needs=(Access.METRICS, Access.EXEMPT),
    parts=("payments",),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=120,
)

EDGE, PROFILE, OTHERS = 10 * 1024 * 1024, 5 * 1024 * 1024, 100 * 1024
FRAMINGS = ("sized", "chunked")
# Place → (its limit, the part it needs).
PLACES = {
    "auth": (OTHERS, "auth"),
    "payments": (OTHERS, "payments"),
    "profile": (PROFILE, "profile-api"),
    "edge": (EDGE, "edge"),
}
EXACT, OVER = "exact size", "one byte more"
MEMORY = "gateway memory"


def test_exact_sizes_pass_and_one_byte_more_does_not(trial: Trial) -> None:
    """Every place, both framings, both sides of the limit; the gateway keeps no bodies."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Send bodies of the limit and of one byte more, and count who saw them."""
    absent = {p: why for p, (_, part) in PLACES.items() if (why := trial.target.absence(part))}
    with trial.client(timeout=30) as client:
        person = accounts.register(client, trial.prefix)
        other = accounts.register(client, trial.prefix)
        answers: dict[str, dict[str, Any]] = {}
        for place, (limit, _) in PLACES.items():
            if place in absent:
                continue
            trial.progress(f"{place}: {limit:,} bytes")
            for framing in FRAMINGS:
                for name, size in ((EXACT, limit), (OVER, limit + 1)):
                    answers[f"{place}, {framing}, {name}"] = _send(
                        trial, client, (person, other), place, framing, size
                    )
        trial.progress("the gateway's memory")
        memory = _memory(trial, client, (person, other), absent)
    return {"answers": answers, "memory": memory, "absent": absent}


def _send(
    trial: Trial,
    client: httpx.Client,
    people: tuple[Session, Session],
    place: str,
    framing: str,
    size: int,
) -> dict[str, Any]:
    before = _seen_by_gateway(trial)
    reply = _request(client, people, place, framing, size)
    return {
        "status": reply.status,
        "code": error_code(reply),
        "error": reply["error"],
        "by_gateway": _seen_by_gateway(trial) - before,
    }


def _request(
    client: httpx.Client, people: tuple[Session, Session], place: str, framing: str, size: int
) -> Exchange:
    """A valid request whose body is filled up with blanks, which JSON does not mind."""
    person, other = people
    method, path, document = {
        "auth": ("POST", "/api/auth/login", {"email": person.email, "password": PASSWORD}),
        "payments": ("POST", "/api/payments", _payment(other)),
        "profile": ("PUT", "/api/profile", {"bio": "trial"}),
        "edge": ("POST", "/api/payments", _payment(other)),
    }[place]
    body = json.dumps(document).encode().ljust(size)
    content: Any = body if framing == "sized" else _pieces(body)
    headers = {**person.headers, "Content-Type": "application/json"}
    return exchange(client, method, path, headers=headers, content=content)


def _payment(recipient: Session) -> dict[str, str]:
    return {
        "type": "instant",
        "amount": "1.00",
        "currency": "USD",
        "description": "trial",
        "recipientId": recipient.user_id,
    }


def _pieces(body: bytes, size: int = 65536) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _seen_by_gateway(trial: Trial) -> int:
    """Requests under /api/ that the gateway has answered; asking for metrics is none of them."""
    samples = metrics.read_all(trial.members("gateway")).get("http_requests_total", [])
    return int(sum(v for labels, v in samples if labels.get("path", "").startswith("/api/")))


def _memory(
    trial: Trial, client: httpx.Client, people: tuple[Session, Session], absent: dict[str, str]
) -> dict[str, Any]:
    """Resident memory of all gateways (bytes) before and after many large uploads."""
    place = "payments" if "profile" in absent else "profile"
    size = PLACES[place][0]
    for _ in trial.members("gateway"):  # what is allocated once is not growth
        _request(client, people, place, "sized", size)

    def resident() -> float:
        samples = metrics.read_all(trial.members("gateway"))
        return metrics.total(samples, "process_resident_memory_bytes")

    before = resident()
    passed = sum(
        _request(client, people, place, FRAMINGS[n % 2], size).status in (200, 201)
        for n in range(trial.limits["uploads"])
    )
    return {"before": before, "after": resident(), "uploads": passed, "bytes": size}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Exact sizes reach their handler, one byte more is 413, the edge's own without the gateway."""
    names = [
        f"{place}, {framing}, {name}"
        for place in PLACES
        for framing in FRAMINGS
        for name in (EXACT, OVER)
    ]
    tally = Tally([*names, MEMORY])
    for name in names:
        place = name.split(",")[0]
        if place in evidence["absent"]:
            tally.absent(name, evidence["absent"][place])
            continue
        _judge(tally, name, evidence["answers"][name])
    memory = evidence["memory"]
    tally.enough("large uploads", memory["uploads"], limits["uploads"])
    grown = (memory["after"] - memory["before"]) / 2**20
    tally.judge(
        MEMORY,
        memory["before"] > 0 and abs(grown) <= limits["memory_mib"],
        seen=f"{grown:+.1f} MiB over {memory['uploads']} uploads of {memory['bytes']:,} bytes",
        expected=f"within ± {limits['memory_mib']} MiB",
    )
    tally.figure("gateway memory grown", round(grown, 1), "MiB", limit=limits["memory_mib"])
    return tally.outcome()


def _judge(tally: Tally, name: str, answer: dict[str, Any]) -> None:
    place, framing, size = name.split(", ")
    if answer["status"] == 0 or answer["status"] >= 500 or answer["status"] == 429:
        tally.unproven(name, answer["error"] or f"answered {answer['status']}")
        return
    seen = f"{answer['status']} {answer['code']}".strip()
    if place == "edge":
        # The services' own limit is lower: what the edge lets through is refused behind it.
        tally.equal(name, seen, "413 PAYLOAD_TOO_LARGE")
        if size == EXACT:
            tally.equal(name, answer["by_gateway"], 1, place=f"{name}: requests the gateway saw")
        elif framing == "sized":
            # A chunked body shows its size only while it passes, so the gateway may see its start.
            tally.equal(name, answer["by_gateway"], 0, place=f"{name}: requests the gateway saw")
    elif size == EXACT:
        good = "201" if place == "payments" else "200"
        tally.equal(name, seen, good)
    else:
        tally.equal(name, seen, "413 PAYLOAD_TOO_LARGE")
