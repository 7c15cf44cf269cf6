"""Diagnostic probes through the target's own consumers (contract R3.52, R3.53)."""

from __future__ import annotations

import itertools
import json
import secrets
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

from harness.probe import CouldNotObserve, exchange, http_client
from harness.target import Amqp
from harness.trial import Trial
from suites.probes import broker

SERVICES = ("auth", "payments", "admin", "profile")
# A routing key that reaches every service's queue.
EVERY_QUEUE = "auth.user.probe"


def queue_of(service: str) -> str:
    """The queue a service consumes."""
    return f"{service}.events.queue"


def new_nonce() -> str:
    """Marks the probes of one observation."""
    return f"trial-{secrets.token_hex(6)}"


def envelope(type: str, data: dict[str, Any]) -> dict[str, Any]:
    """A well-formed event as an outsider would write it."""
    return {
        "id": str(uuid.uuid4()),
        "type": type,
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "source": "auth-service",
        "data": data,
        "metadata": {
            "correlationId": str(uuid.uuid4()),
            "eventType": "system",
            "actorId": None,
            "ipAddress": "127.0.0.2",
            "userAgent": "trial",
        },
    }


def publish_event(
    channel: BlockingChannel, amqp: Amqp, event: dict[str, Any], key: str = EVERY_QUEUE
) -> str:
    """Publish an event persistently and confirmed; gives its id."""
    broker.publish(
        channel,
        amqp.exchange,
        key,
        json.dumps(event).encode(),
        message_id=event["id"],
        type=event["type"],
        app_id=event["source"],
    )
    return str(event["id"])


def publish_probe(
    channel: BlockingChannel,
    amqp: Amqp,
    nonce: str,
    seq: int,
    *,
    fail_times: int = 0,
    fail_queue: str = "",
) -> str:
    """Publish a probe that fails the first ``fail_times`` attempts in one queue; gives its id."""
    data: dict[str, Any] = {"nonce": nonce, "seq": seq}
    if fail_times:
        data |= {"failTimes": fail_times, "failQueue": fail_queue}
    return publish_event(channel, amqp, envelope("diagnostics.probe", data))


def read(trial: Trial, service: str, nonce: str) -> list[dict[str, Any]]:
    """What became of the probes with this nonce in a service, in order of effect.

    A process tells of its own attempts only. Where a service has several members, what they tell
    is put together: the attempts of a probe in the order of their times.

    Raises:
        CouldNotObserve: diagnostics are off or not reached.
    """
    members = trial.members(service)
    told = [_told_by(trial, service, url, nonce) for url in members]
    return told[0] if len(members) == 1 else together(told)


def together(told: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The probes of several members of one service as if one had handled them all."""
    probes: dict[str, dict[str, Any]] = {}
    for one in itertools.chain.from_iterable(told):
        known = probes.setdefault(one["eventId"], {**one, "attempts": 0, "attemptTimes": []})
        known["attempts"] += one["attempts"]
        known["attemptTimes"] = sorted([*known["attemptTimes"], *one["attemptTimes"]])
        known["processedAt"] = known["processedAt"] or one["processedAt"]
    # Those that have not succeeded yet come last, as they do in the list of one process.
    return sorted(probes.values(), key=lambda probe: probe["processedAt"] or "~")


def _told_by(trial: Trial, service: str, url: str, nonce: str) -> list[dict[str, Any]]:
    internal = trial.target.access.internal
    if internal is None:
        raise CouldNotObserve("the target file has no [access.internal]")
    with http_client(url) as client:
        seen = exchange(
            client,
            "GET",
            f"/internal/diagnostics/probes?nonce={nonce}",
            headers={"X-Internal-Token": internal.token},
        )
    data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
    if seen.status != 200 or not isinstance(data, list):
        raise CouldNotObserve(
            f"diagnostics of {service}: seen {seen['error'] or seen.status}, expected a list"
        )
    return data


def seconds_between(times: Iterable[str]) -> list[float]:
    """The gaps between moments written as the contract writes them, in seconds."""
    moments = [datetime.fromisoformat(text) for text in times]
    return [
        round((later - earlier).total_seconds(), 3)
        for earlier, later in itertools.pairwise(moments)
    ]


def take_dead_letters(amqp: Amqp, nonce: str, seconds: float, wanted: int) -> list[dict[str, Any]]:
    """Take from the DLQ what carries this nonce, until the wanted number came or time is over.

    Letters of others are put back unchanged (and in their order) when the channel closes.
    """
    taken: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    while len(taken) < wanted and time.monotonic() < deadline:
        with broker.channel(amqp) as channel:
            while True:
                method, properties, body = channel.basic_get("events.dlq")
                if method is None or properties is None or body is None:
                    break
                if nonce.encode() in body:
                    taken.append(letter(properties, body, method.redelivered))
                    channel.basic_ack(method.delivery_tag)
        if len(taken) < wanted:
            time.sleep(0.25)
    return taken


def letter(properties: Any, body: bytes, redelivered: bool) -> dict[str, Any]:
    """A dead letter as a plain document."""
    headers = {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in (properties.headers or {}).items()
    }
    return {
        "message_id": properties.message_id,
        "headers": headers,
        "body": body.decode("utf-8", "replace")[:500],
        "delivery_mode": properties.delivery_mode,
        "redelivered": redelivered,
    }
