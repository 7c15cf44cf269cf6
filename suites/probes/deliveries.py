"""Events sent out to many sockets, and which of them each socket got."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from harness.probe import exchange
from harness.trial import Trial
from loadtests.engine.estimation import percentile
from loadtests.workloads.population import Population
from suites.probes import broker, diagnostics

KINDS = ("broadcast", "targeted")


def emit(trial: Trial, population: Population, began: float) -> dict[str, dict[str, Any]]:
    """Broadcasts over AMQP and payments over REST, spread over the hold; key → what it was."""
    limits, amqp = trial.limits, broker.access(trial.target)
    people = population.members
    rounds = limits["broadcasts"]
    pause = 0.7 * limits["hold_seconds"] / rounds
    pairs = [(n, (n + 1) % len(people)) for n in range(len(people))] * limits["payments_each"]
    sent: dict[str, dict[str, Any]] = {}
    with broker.channel(amqp) as channel, trial.client() as client:
        channel.confirm_delivery()
        for number in range(rounds):
            event = diagnostics.envelope(
                "config.updated",
                {"key": f"public.{trial.prefix}", "updatedBy": None, "updatedAt": ""},
            )
            event["source"] = "admin-service"
            event["data"]["updatedAt"] = event["timestamp"]
            key = event["metadata"]["correlationId"]
            at = time.monotonic()
            diagnostics.publish_event(channel, amqp, event, "admin.config.updated")
            sent[key] = {"kind": "broadcast", "users": None, "at": at}
            for sender, recipient in pairs[number::rounds]:
                key = str(uuid.uuid4())
                reply = exchange(
                    client,
                    "POST",
                    "/api/payments",
                    headers={
                        "Authorization": f"Bearer {people[sender].access_token}",
                        "X-Correlation-ID": key,
                    },
                    json={
                        "type": "instant",
                        "amount": "1.00",
                        "currency": "USD",
                        "description": trial.prefix,
                        "recipientId": people[recipient].user_id,
                    },
                )
                if reply.status == 201:
                    both = [people[sender].user_id, people[recipient].user_id]
                    sent[key] = {"kind": "targeted", "users": both, "at": time.monotonic()}
            # The emissions are spread over the hold on purpose.
            time.sleep(max(0.0, began + (number + 1) * pause - time.monotonic()))
    return sent


def reconcile(document: Mapping[str, Any], sent: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Expected, received, leaked and repeated deliveries, and how long each took (seconds)."""
    keys = [event["correlation_id"] for event in document["events"]]
    expected, received = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    leaked = repeated = 0
    delays: list[tuple[float, float]] = []
    for client in document["clients"]:
        mine: dict[str, int] = {}
        for number, at in client["events"]:
            what = sent.get(keys[number])
            if what is None:
                continue
            mine[keys[number]] = mine.get(keys[number], 0) + 1
            if what["users"] is not None and client["user"] not in what["users"]:
                leaked += 1
            else:
                delays.append((what["at"], max(0.0, at - what["at"])))
        repeated += sum(count - 1 for count in mine.values())
        for key, what in sent.items():
            if what["users"] is None or client["user"] in what["users"]:
                expected[what["kind"]] += 1
                received[what["kind"]] += key in mine
    times = np.array([at for at, _ in delays])
    values = np.array([delay for _, delay in delays])
    estimate = percentile(values, times, 0.95) if len(values) >= 59 else None
    return {
        "expected": expected,
        "received": received,
        "leaked": leaked,
        "repeated": repeated,
        "delivery": msgspec.to_builtins(estimate) if estimate else None,
        "delivery_max": round(float(values.max()), 4) if len(values) else None,
        "closed_early": sum(
            c["closed"] is not None and not c["closed_by_us"] for c in document["clients"]
        ),
    }
