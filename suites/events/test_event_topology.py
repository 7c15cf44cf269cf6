"""The broker holds exactly the contracted exchanges, queues, bindings and accounts."""

from __future__ import annotations

from typing import Any

from harness.criterion import Access, Criterion
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, wait_until
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import broker

CRITERION = Criterion(
    id="event-topology",
    area="events",
    statement="Exchanges, queues, bindings, their arguments and the broker's users MUST be "
    "exactly as contracted.",
    gate="exact, read from the management API",
    rules=("R3.1", "R3.2", "R3.3", "R3.4", "R3.5", "R3.6", "R3.7", "R3.8"),
    needs=(Access.AMQP,),
)

SERVICES = ("auth", "payments", "admin", "profile")
DEAD_LETTERS = {
    "x-dead-letter-exchange": "events.dlx",
    "x-dead-letter-routing-key": "dead-letter",
    "x-single-active-consumer": True,
}
EXCHANGES = {"events": "topic", "events.dlx": "direct"}
QUEUES: dict[str, dict[str, Any]] = {
    **{f"{service}.events.queue": DEAD_LETTERS for service in SERVICES},
    **{
        f"{service}.events.retry.{level}": {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{service}.events.queue",
        }
        for service in SERVICES
        for level in (1, 2, 3)
    },
    "events.dlq": {},
}
BINDINGS = {
    ("events", "auth.events.queue", "auth.#"),
    ("events", "payments.events.queue", "payments.#"),
    ("events", "payments.events.queue", "auth.user.#"),
    ("events", "admin.events.queue", "#"),
    ("events", "profile.events.queue", "auth.user.#"),
    ("events.dlx", "events.dlq", "dead-letter"),
}
GATEWAY_QUEUE = "gateway.ws."


def test_the_broker_is_as_contracted(trial: Trial) -> None:
    """Nothing is missing, nothing differs, nothing is there besides."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Read the virtual host's objects and the broker's accounts."""
    amqp = broker.access(trial.target)
    with broker.management(amqp) as client:

        def read(path: str) -> Any:
            reply = client.get(f"/api/{path}")
            if reply.status_code != 200:
                raise CouldNotObserve(f"management API /api/{path}: {reply.status_code}")
            found = reply.json()
            if not isinstance(found, list):
                raise CouldNotObserve(
                    f"management API /api/{path}: seen no list: {str(found)[:80]}"
                )
            return found

        def with_gateway() -> Any:
            found = read(f"queues/{broker.VHOST}")
            return found if any(_is_gateway(q.get("name", "")) for q in found) else None

        try:
            # A gateway that connected a moment ago is not listed at once.
            queues = wait_until(with_gateway, seconds=10, what="a gateway's queue", pause=0.5)
        except CouldNotObserve:
            queues = read(f"queues/{broker.VHOST}")
        return {
            "exchanges": [
                {k: e[k] for k in ("name", "type", "durable", "auto_delete", "arguments")}
                for e in read(f"exchanges/{broker.VHOST}")
                if e["name"] and not e["name"].startswith("amq.")
            ],
            "queues": [
                {
                    k: q.get(k)
                    for k in ("name", "type", "durable", "auto_delete", "exclusive", "arguments")
                }
                for q in queues
            ],
            "bindings": [
                [b["source"], b["destination"], b["routing_key"], b["arguments"]]
                for b in read(f"bindings/{broker.VHOST}")
                if b["source"] and b["destination_type"] == "queue"
            ],
            "accounts": sorted(u["name"] for u in read("users")),
            "configured_accounts": sorted(amqp.users),
        }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each contracted object exists as contracted; whatever else is found is a finding."""
    bindings = {tuple(b[:3]) for b in evidence["bindings"]}
    tally = Tally(
        [
            *(f"exchange {name}" for name in EXCHANGES),
            *(f"queue {name}" for name in QUEUES),
            *(" → ".join(binding) for binding in sorted(BINDINGS)),
            "gateway queue",
            "nothing besides",
            "accounts",
        ]
    )
    exchanges = {e["name"]: e for e in evidence["exchanges"]}
    for name, kind in EXCHANGES.items():
        expected = {
            "name": name, "type": kind, "durable": True, "auto_delete": False, "arguments": {},
        }  # fmt: skip
        tally.equal(f"exchange {name}", exchanges.get(name, "missing"), expected)
    queues = {q["name"]: q for q in evidence["queues"]}
    for name, arguments in QUEUES.items():
        tally.equal(
            f"queue {name}",
            queues.get(name, "missing"),
            {
                "name": name, "type": "classic", "durable": True, "auto_delete": False,
                "exclusive": False, "arguments": arguments,
            },
        )  # fmt: skip
    for binding in sorted(BINDINGS):
        subject = " → ".join(binding)
        seen = "bound" if binding in bindings else "not bound"
        tally.equal(subject, seen, "bound")
    _check_gateways(tally, queues, bindings)
    surplus = [
        *(f"exchange {name}" for name in exchanges.keys() - EXCHANGES.keys()),
        *(f"queue {name}" for name in queues.keys() - QUEUES.keys() if not _is_gateway(name)),
        *(
            " → ".join(binding)
            for binding in sorted(bindings - BINDINGS)
            if not _is_gateway(binding[1])
        ),
        *(f"arguments of {b[:3]}" for b in evidence["bindings"] if b[3]),
    ]
    tally.equal("nothing besides", ", ".join(surplus) or "nothing", "nothing")
    _check_accounts(tally, evidence)
    return tally.outcome()


def _is_gateway(name: str) -> bool:
    return name.startswith(GATEWAY_QUEUE)


def _check_gateways(tally: Tally, queues: dict[str, Any], bindings: set[tuple[Any, ...]]) -> None:
    names = [name for name in queues if _is_gateway(name)]
    if not names:
        tally.judge(
            "gateway queue", False, seen="none", expected=f"{GATEWAY_QUEUE}<instance> per gateway"
        )
    for name in names:
        seen = {k: queues[name][k] for k in ("durable", "auto_delete", "exclusive")}
        tally.equal(
            "gateway queue", seen, {"durable": False, "auto_delete": True, "exclusive": True}
        )
        keys = sorted(key for _, queue, key in bindings if queue == name)
        tally.equal("gateway queue", keys, ["#"], place=f"bindings of {name}")


def _check_accounts(tally: Tally, evidence: Evidence) -> None:
    if not evidence["configured_accounts"]:
        tally.unproven("accounts", "the target file does not name them ([access.amqp] users)")
        return
    tally.equal("accounts", evidence["accounts"], evidence["configured_accounts"])
    tally.judge(
        "accounts", "guest" not in evidence["accounts"], seen="guest exists", expected="no guest"
    )
