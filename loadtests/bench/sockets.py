"""10,000 WebSockets on one gateway process: memory of each, and how soon a broadcast is with all.

Goals: at most 30 KiB each, and less than 2 s until the last one has it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import pika

from harness.probe import CouldNotObserve
from harness.target import Target
from loadtests.bench import usage
from loadtests.swarm.control import Swarm, SwarmFailed
from loadtests.swarm.hive import Expectation
from loadtests.swarm.plan import SwarmClient, SwarmPlan
from loadtests.workloads.population import exempt_addresses, settle

SOCKETS, USERS, BROADCASTS = 10_000, 520, 3  # at most 20 sockets a user (R4.5)
KIB_EACH, SECONDS = 30.0, 2.0


def run(target: Target) -> None:
    """Open all sockets directly at the gateway, broadcast, and print what it took."""
    if "gateway" not in target.services or target.access.amqp is None:
        raise CouldNotObserve("the target file needs [services.gateway] and [access.amqp]")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway = target.services["gateway"].url
    members = settle(target, prefix="bench-sockets", users=USERS, payments_each=0).members
    plan = SwarmPlan(
        url=gateway.replace("http://", "ws://") + "/ws",
        addresses=exempt_addresses(target, 16),
        clients=tuple(
            SwarmClient(user=m.user_id, token=m.access_token)
            for m in (members[n % USERS] for n in range(SOCKETS))
        ),
        connect_rate=400.0,
    )
    before = usage.read(gateway, "process_resident_memory_bytes")
    with tempfile.TemporaryDirectory() as name:
        try:
            with Swarm(plan, Path(name), "swarm") as swarm:
                connected = swarm.connect()
                held = usage.read(gateway, "process_resident_memory_bytes")
                sent = _broadcast(target)
                swarm.expect([Expectation(key=key, users=None) for key in sent], within=20.0)
                document = swarm.finish()
        except SwarmFailed as error:
            raise CouldNotObserve(str(error)) from error
    each = (held - before) / max(1, connected["welcomed"]) / 1024
    print(f"sockets   {connected['welcomed']} of {SOCKETS} (failed: {connected['failed']})")
    print(f"memory    {each:.1f} KiB each (goal {KIB_EACH:g}), {held / 2**20:.0f} MiB in all")
    keys = [event["correlation_id"] for event in document["events"]]
    for key, at in sent.items():
        delays = np.array(
            [
                moment - at
                for client in document["clients"]
                for number, moment in client["events"]
                if keys[number] == key
            ]
        )
        if not len(delays):
            print("broadcast never seen")
            continue
        print(
            f"broadcast with {len(delays)} of {SOCKETS}: p50 {np.median(delays):.2f} s, "
            f"last {delays.max():.2f} s (goal {SECONDS:g})"
        )


def _broadcast(target: Target) -> dict[str, float]:
    """Publish events that go to everybody; correlation id → when."""
    amqp = target.access.amqp
    assert amqp is not None
    sent = {}
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp.url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for _ in range(BROADCASTS):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
            key = str(uuid.uuid4())
            event = {
                "id": str(uuid.uuid4()),
                "type": "config.updated",
                "version": "1.0",
                "timestamp": stamp,
                "source": "admin-service",
                "data": {"key": "public.bench", "updatedBy": None, "updatedAt": stamp},
                "metadata": {
                    "correlationId": key,
                    "eventType": "system",
                    "actorId": None,
                    "ipAddress": "127.0.0.1",
                    "userAgent": "bench",
                },
            }
            sent[key] = time.monotonic()
            channel.basic_publish(
                amqp.exchange,
                "admin.config.updated",
                json.dumps(event).encode(),
                pika.BasicProperties(
                    delivery_mode=2,
                    content_type="application/json",
                    message_id=str(event["id"]),
                    type="config.updated",
                    correlation_id=key,
                ),
            )
            time.sleep(3.0)  # one after the other: each is to be measured alone
    return sent
