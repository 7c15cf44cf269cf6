"""3.6 to 3.8 as a client of the broker sees them: how it is consumed, what failures leave."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import httpx
import pika
import psycopg
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk, new_key, until
from system.tests.test_contract_publishing import (
    DEAD,
    EVERY_QUEUE,
    depth,
    envelope,
    handled,
    held,
    probes,
    queue_of,
    send,
)

pytestmark = pytest.mark.platform

OURS = {
    "x-original-queue",
    "x-original-routing-key",
    "x-error",
    "x-failure-kind",
    "x-attempts",
    "x-first-failure-at",
    "x-last-failure-at",
}


@pytest.fixture
def channel(well: RunningStack) -> Iterator[BlockingChannel]:
    """A channel in confirm mode, on a broker without dead letters."""
    connection = pika.BlockingConnection(pika.URLParameters(well.target["access"]["amqp"]["url"]))
    opened = connection.channel()
    opened.confirm_delivery()
    opened.queue_purge(DEAD)
    yield opened
    opened.queue_purge(DEAD)
    connection.close()


def management(stack: RunningStack, path: str) -> Any:
    """What the management API says."""
    granted = stack.target["access"]["amqp"]
    answer = httpx.get(
        f"{granted['management']}/api/{path}", auth=(granted["user"], granted["password"])
    )
    assert answer.is_success, answer.text
    return answer.json()


def test_r3_20_r3_44_heartbeats_prefetch_and_acknowledgement(well: RunningStack) -> None:
    """Of every connection and of the consumer of each of the four queues."""

    def consumers() -> list[Any]:
        mine = {queue_of(service) for service in SERVICES}
        found = management(well, "consumers")
        return [consumer for consumer in found if consumer["queue"]["name"] in mine]

    until(lambda: len(consumers()) == len(SERVICES), 15)  # its statistics lag behind
    assert {(each["prefetch_count"], each["ack_required"]) for each in consumers()} == {(10, True)}
    users = set(well.target["access"]["amqp"]["users"]) - {well.target["access"]["amqp"]["user"]}
    until(lambda: len(connections(well, users)) == len(SERVICES) + 1, 15)
    assert {connection["timeout"] for connection in connections(well, users)} == {10}


def connections(stack: RunningStack, users: set[str]) -> list[Any]:
    """The connections of some users."""
    return [each for each in management(stack, "connections") if each.get("user") in users]


def test_r3_46_r3_48_r3_50_a_failure_leaves_its_letter_and_a_line_an_attempt(
    well: RunningStack, channel: BlockingChannel
) -> None:
    """In each queue: four attempts or one, body and properties as they came, our headers."""
    failing = {
        service: envelope(
            "diagnostics.probe", nonce=new_key(), seq=1, failTimes=4, failQueue=queue_of(service)
        )
        for service in SERVICES
    }
    malformed = {**envelope("user.deleted", userId="nobody"), "note": new_key()}
    properties = {
        "content_type": "application/json",
        "correlation_id": "c",
        "app_id": "stranger",
        "type": "anything",
        "priority": 3,
        "timestamp": 1_700_000_000,
        "delivery_mode": 2,
    }
    for event in (*failing.values(), malformed):
        channel.basic_publish(
            "events",
            EVERY_QUEUE,
            json.dumps(event).encode(),
            pika.BasicProperties(
                message_id=event["id"], headers={"own": "kept"}, expiration="60000", **properties
            ),
        )
    until(lambda: depth(channel, DEAD) == 2 * len(SERVICES), 14)

    letters = {}
    for _ in range(2 * len(SERVICES)):
        _, found, body = channel.basic_get(DEAD, auto_ack=True)
        assert found is not None
        letters[found.message_id, found.headers["x-original-queue"]] = (found, body)
    for service in SERVICES:
        for event, kind, attempts in (
            (failing[service], "handler", 4),
            (malformed, "malformed", 1),
        ):
            found, body = letters[event["id"], queue_of(service)]
            assert body == json.dumps(event).encode()
            assert {name: getattr(found, name) for name in properties} == properties
            assert found.expiration is None
            headers = dict(found.headers)
            assert headers.pop("own") == "kept"
            headers.pop("x-death", None)
            assert set(headers) == OURS
            assert headers["x-original-routing-key"] == EVERY_QUEUE
            assert (headers["x-failure-kind"], headers["x-attempts"]) == (kind, attempts)
            assert 0 < len(headers["x-error"]) <= 1024
            assert "\n" not in headers["x-error"]
            first, last = (
                datetime.fromisoformat(headers[name])
                for name in ("x-first-failure-at", "x-last-failure-at")
            )
            assert 0 <= (last - first).total_seconds() < 12
            assert (kind == "malformed") == (last == first)
            lines = [line for line in well.log(service).splitlines() if event["id"] in line]
            assert len(lines) == attempts, lines


def test_r3_52_r3_53_probes_leave_nothing_and_are_unknown_when_diagnostics_are_off(
    well: RunningStack, channel: BlockingChannel
) -> None:
    """Neither audit rows nor, when off, an entry, a failure or even a rule for their data."""
    on = envelope("diagnostics.probe", nonce=new_key(), seq=1)
    send(channel, on, EVERY_QUEUE)
    for service in SERVICES:
        until(partial(handled, well, service, on["data"]["nonce"]), 10)
        [probe] = probes(well, service, on["data"]["nonce"])
        assert set(probe) == {"eventId", "seq", "attempts", "attemptTimes", "processedAt"}
        assert (probe["eventId"], probe["seq"], probe["attempts"]) == (on["id"], 1, 1)
    with psycopg.connect(well.database("admin")) as db:
        audited = db.execute("SELECT 1 FROM audit_logs WHERE event_id = %s", [on["id"]]).fetchall()
    assert audited == []

    well.restart_with("profile", {"DIAGNOSTICS_ENABLED": "false"})
    try:
        off = envelope("diagnostics.probe", failTimes=9, failQueue=queue_of("profile"))
        channel.basic_publish("", queue_of("profile"), json.dumps(off).encode())
        until(lambda: held(well) == 0, 10)
        assert depth(channel, DEAD) == 0
        answer = httpx.get(
            f"{well.services['profile']}/internal/diagnostics/probes?nonce=x",
            headers={"X-Internal-Token": well.target["access"]["internal"]["token"]},
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    finally:
        well.restart("profile")


def test_r3_42_a_revocation_that_is_told_stands_in_redis(
    well: RunningStack, desk: Desk, channel: BlockingChannel
) -> None:
    """As after a crash between commit and mirror: the event alone closes the session."""
    session = desk.write("auth", new_key()).json()["data"]
    token, user = session["accessToken"], session["user"]["id"]

    def answer() -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return desk.http.get("/api/profile", headers=headers)

    assert answer().status_code == 200
    event = envelope(
        "session.revoked",
        userId=user,
        sessionId=sid_of(token),
        deviceId=None,
        reason="session_revoked",
        timestamp="2026-01-17T10:00:00.000Z",
    )

    send(channel, event, "auth.session.revoked")

    until(lambda: answer().status_code == 401, 5)
    assert answer().json()["error"]["code"] == "TOKEN_REVOKED"


def sid_of(token: str) -> str:
    """The session that a token belongs to."""
    claims = token.split(".")[1]
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return found["sid"]


def dlq(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `bin/dlq` as the target file says."""
    command = [*shlex.split(stack.target["commands"]["dlq"]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_r3_55_replaying_takes_effect_where_it_has_not_yet(
    well: RunningStack, channel: BlockingChannel
) -> None:
    """Of two letters of each queue one tells what has happened meanwhile: that does nothing."""
    known, new = (envelope("diagnostics.probe", nonce=new_key(), seq=n) for n in (1, 2))
    send(channel, known, EVERY_QUEUE)
    for service in SERVICES:
        until(partial(handled, well, service, known["data"]["nonce"]), 10)
        for event in (known, new):
            bury(channel, event, queue_of(service))
    assert dlq(well, "purge").returncode == 2
    assert depth(channel, DEAD) == 2 * len(SERVICES)

    done = dlq(well, "replay", "--all", "--json")

    assert done.returncode == 0, done.stderr
    assert depth(channel, DEAD) == 0
    until(lambda: held(well) == 0, 10)
    for service in SERVICES:
        for event in (known, new):
            found = probes(well, service, event["data"]["nonce"])
            assert [probe["attempts"] for probe in found] == [1], service


def bury(channel: BlockingChannel, event: dict[str, Any], queue: str) -> None:
    """Put a letter into the DLQ as a consumer of a queue would after four attempts."""
    headers = {
        "x-original-queue": queue,
        "x-original-routing-key": EVERY_QUEUE,
        "x-error": "RuntimeError: away",
        "x-failure-kind": "handler",
        "x-attempts": 4,
        "x-first-failure-at": event["timestamp"],
        "x-last-failure-at": event["timestamp"],
    }
    properties = pika.BasicProperties(delivery_mode=2, message_id=event["id"], headers=headers)
    body = json.dumps(event).encode()
    channel.basic_publish("events.dlx", "dead-letter", body, properties, mandatory=True)
