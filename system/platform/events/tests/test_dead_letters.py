"""Tests of bin/dlq against a real broker (R3.54, R3.55)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiormq.abc import AbstractChannel
from pamqp import commands

from .conftest import Broker

DLQ = Path(__file__).resolve().parents[4] / "bin" / "dlq"
PROFILE = "profile.events.queue"
AUTH = "auth.events.queue"


def dlq(broker: Broker, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    return subprocess.run(
        (str(DLQ), *arguments),
        env={"PATH": os.environ["PATH"], "RABBITMQ_URL": broker.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def bury(channel: AbstractChannel, name: str, queue: str, body: bytes = b"{}") -> None:
    """Put a dead letter into the DLQ."""
    await channel.basic_publish(
        body,
        exchange="events.dlx",
        routing_key="dead-letter",
        properties=commands.Basic.Properties(
            message_id=name,
            message_type="user.created",
            delivery_mode=2,
            headers={
                "source": "auth-service",
                "x-original-queue": queue,
                "x-original-routing-key": "auth.user.created",
                "x-error": "ValueError: no",
                "x-failure-kind": "handler",
                "x-attempts": 4,
                "x-first-failure-at": "2026-01-17T10:00:00.000Z",
                "x-last-failure-at": "2026-01-17T10:00:07.000Z",
            },
        ),
    )


async def contents(channel: AbstractChannel, queue: str) -> list[tuple[str | None, Any, bytes]]:
    """Take everything out of a queue: id, headers, body."""
    found: list[tuple[str | None, Any, bytes]] = []
    while True:
        message = await channel.basic_get(queue, no_ack=True)
        if not isinstance(message.delivery, commands.Basic.GetOk):
            return found
        properties = message.header.properties
        found.append((properties.message_id, dict(properties.headers or {}), message.body))


@pytest.fixture
async def letters(channel: AbstractChannel) -> AbstractChannel:
    """Six dead letters a-f: c and e of auth, the others of profile; d is no JSON."""
    for name in "abcdef":
        await bury(
            channel,
            name,
            AUTH if name in "ce" else PROFILE,
            b"\xff\x00" if name == "d" else b'{"n": 1}',
        )
    return channel


async def test_list_shows_them_and_changes_nothing(
    broker: Broker, letters: AbstractChannel
) -> None:
    """R3.54: oldest first, limited, by queue; order and content stay."""
    everything = dlq(broker, "list", "--json")
    some = dlq(broker, "list", "--queue", AUTH, "--json")
    few = dlq(broker, "list", "--limit", "2", "--json")
    plain = dlq(broker, "list")

    assert everything.returncode == 0, everything.stderr
    assert [entry["messageId"] for entry in json.loads(everything.stdout)] == list("abcdef")
    assert [entry["messageId"] for entry in json.loads(some.stdout)] == ["c", "e"]
    assert [entry["messageId"] for entry in json.loads(few.stdout)] == ["a", "b"]
    assert "6 dead letters" in plain.stdout
    left = await contents(letters, "events.dlq")
    assert [name for name, _, _ in left] == list("abcdef")
    assert left[0][1]["x-attempts"] == 4
    assert left[0][2] == b'{"n": 1}'


async def test_inspect_shows_all_of_one(broker: Broker, letters: AbstractChannel) -> None:
    """R3.54: headers, properties and body, of whatever kind it is."""
    found = dlq(broker, "inspect", "b", "--json")
    binary = dlq(broker, "inspect", "d", "--json")
    missing = dlq(broker, "inspect", "nobody")

    shown = json.loads(found.stdout)
    assert shown["messageId"] == "b"
    assert shown["headers"]["x-error"] == "ValueError: no"
    assert shown["body"] == {"n": 1}
    assert json.loads(binary.stdout)["base64"] == "/wA="
    assert missing.returncode == 1
    assert "nobody" in missing.stderr
    assert [name for name, _, _ in await contents(letters, "events.dlq")] == list("abcdef")


async def test_replay_sends_one_back(broker: Broker, letters: AbstractChannel) -> None:
    """R3.55: to its queue only, attempts reset, x-replayed-at added, gone from the DLQ."""
    done = dlq(broker, "replay", "c", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["replayed"] == 1
    assert [name for name, _, _ in await contents(letters, "events.dlq")] == list("abdef")
    ((name, headers, body),) = await contents(letters, AUTH)
    assert (name, body) == ("c", b'{"n": 1}')
    assert headers.pop("x-replayed-at").endswith("Z")
    assert headers == {
        "source": "auth-service",
        "x-original-queue": AUTH,
        "x-original-routing-key": "auth.user.created",
    }
    assert await contents(letters, "admin.events.queue") == []


async def test_replay_by_queue_and_all(broker: Broker, letters: AbstractChannel) -> None:
    """R3.54: a queue's dead letters, or all; in order."""
    some = dlq(broker, "replay", "--queue", PROFILE)
    rest = dlq(broker, "replay", "--all")

    assert (some.stdout, rest.stdout) == ("4 replayed\n", "2 replayed\n")
    assert [name for name, _, _ in await contents(letters, PROFILE)] == list("abdf")
    assert [name for name, _, _ in await contents(letters, AUTH)] == list("ce")
    assert await contents(letters, "events.dlq") == []


async def test_what_cannot_be_replayed_stays(broker: Broker, channel: AbstractChannel) -> None:
    """A dead letter whose queue is gone or unknown stays, and the command fails."""
    await bury(channel, "lost", "nowhere.events.queue")
    await channel.basic_publish(b"x", exchange="", routing_key="events.dlq")

    done = dlq(broker, "replay", "--all", "--json")

    assert done.returncode == 1
    assert len(json.loads(done.stdout)["failed"]) == 2
    assert len(await contents(channel, "events.dlq")) == 2


async def test_purge_removes_only_when_it_is_meant(
    broker: Broker, letters: AbstractChannel
) -> None:
    """R3.55: without --yes exit code 2 and nothing happens."""
    unsure = dlq(broker, "purge", "--queue", AUTH)
    some = dlq(broker, "purge", "--queue", AUTH, "--yes", "--json")
    after = dlq(broker, "list", "--json")
    rest = dlq(broker, "purge", "--yes")

    assert unsure.returncode == 2
    assert json.loads(some.stdout) == {"purged": 2}
    assert [entry["messageId"] for entry in json.loads(after.stdout)] == list("abdf")
    assert rest.stdout == "4 removed\n"
    assert await contents(letters, "events.dlq") == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("frob",), ("replay",), ("purge",), ("list", "--limit", "0"), ("replay", "x", "--all")],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """R0.17: exit code 2 and a word about help, without a broker."""
    done = subprocess.run(
        (str(DLQ), *arguments), env={"PATH": os.environ["PATH"]}, capture_output=True, check=False
    )

    assert done.returncode == 2
    assert b"--help" in done.stderr


def test_a_broker_that_is_not_there_is_a_failure() -> None:
    """R0.17: exit code 1, with what to look at."""
    done = subprocess.run(
        (str(DLQ), "list"),
        env={"PATH": os.environ["PATH"], "RABBITMQ_URL": "amqp://a:b@127.0.0.1:1"},
        capture_output=True,
        check=False,
    )

    assert done.returncode == 1
    assert b"RABBITMQ_URL" in done.stderr
