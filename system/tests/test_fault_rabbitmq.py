"""The broker stopped, killed, frozen and back: writes go on, and every event arrives once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest

from system.conftest import RunningStack
from system.tests.desks import (
    PROCESSES,
    SERVICES,
    Desk,
    away,
    is_down,
    is_ready,
    new_key,
    pids,
    readiness,
    until,
)

pytestmark = pytest.mark.platform

# R3.20: within 15 s of the broker's return events flow again.
_FLOWING_S = 15.0


@pytest.mark.parametrize("manner", ["stop", "kill", "pause"])
def test_r3_21_the_broker_is_away_and_returns(well: RunningStack, desk: Desk, manner: str) -> None:
    """Writes at every service succeed meanwhile; within 15 s after, each event arrives, once."""
    processes = pids(well)
    keys: dict[str, list[str]] = {service: [] for service in SERVICES}

    with away(well, "rabbitmq", manner):
        for process in PROCESSES if manner != "pause" else ():
            until(partial(is_down, well, process, "rabbitmq"), 5)
            assert readiness(well, process)[0] == 200
        for service in SERVICES:
            for _ in range(3):
                keys[service].append(new_key())
                answer = desk.write(service, keys[service][-1])
                assert answer.is_success, answer.text
            assert desk.waiting(service) >= 3
    for service in SERVICES:
        desk.all_arrived_once(service, keys[service], _FLOWING_S)
        until(partial(desk.has_published, service), 5)
    for process in PROCESSES:
        until(partial(is_ready, well, process), _FLOWING_S)

    assert pids(well) == processes


def test_r3_21_events_written_meanwhile_follow_in_order(well: RunningStack, desk: Desk) -> None:
    """A payment's three steps, taken while the broker is down, are audited in their order."""
    with away(well, "rabbitmq"):
        made = desk.write("payments", new_key())
        payment = made.json()["data"]["id"]
        for status in ("processing", "completed"):
            path = f"/api/payments/{payment}/status"
            assert desk.ask("PATCH", path, "admin", {"status": status}).is_success

    def actions() -> list[str]:
        answer = desk.ask("GET", "/api/admin/audit-logs?resourceType=payment&limit=100", "admin")
        rows = answer.json()["data"]["auditLogs"]
        return [row["action"] for row in reversed(rows) if row["resourceId"] == payment]

    until(lambda: "PAYMENT_COMPLETED" in actions(), _FLOWING_S)
    assert actions() == ["PAYMENT_CREATED", "PAYMENT_UPDATED", "PAYMENT_COMPLETED"]


async def test_r4_24_live_events_go_on_after_the_broker(well: RunningStack, desk: Desk) -> None:
    """A WebSocket outlives the broker's absence, and is told of events again within 15 s."""
    token = desk.token("customer")
    async with aiohttp.ClientSession() as session, _listening(well, session, token) as socket:
        with away(well, "rabbitmq"):
            assert (await asyncio.to_thread(desk.write, "payments", new_key())).is_success

        made: set[str] = set()

        async def keep_paying() -> None:
            while True:
                answer = await asyncio.to_thread(desk.write, "payments", new_key())
                made.add(answer.json()["data"]["id"])
                await asyncio.sleep(0.5)

        paying = asyncio.create_task(keep_paying())
        try:
            async with asyncio.timeout(_FLOWING_S):
                # Those written while it was away are not repeated.
                while (await _payment_told_of(socket)) not in made:
                    pass
        finally:
            paying.cancel()
            await asyncio.wait([paying])


async def test_r4_25_revocations_close_connections_without_the_broker(
    well: RunningStack, desk: Desk
) -> None:
    """Within 5 s of a logout while the broker is down the session's WebSocket is closed, 4401."""
    answer = desk.ask("POST", "/api/auth/login", None, well.account("vendor"))
    token = answer.json()["data"]["accessToken"]
    async with aiohttp.ClientSession() as session, _listening(well, session, token) as socket:
        with away(well, "rabbitmq"):
            headers = {"Authorization": f"Bearer {token}"}
            url = f"{well.services['gateway']}/api/auth/logout"
            async with session.post(url, json={}, headers=headers) as out:
                assert out.status == 200
            async with asyncio.timeout(5):
                while not socket.closed:
                    await socket.receive()

        assert socket.close_code == 4401


@contextlib.asynccontextmanager
async def _listening(
    well: RunningStack, session: aiohttp.ClientSession, token: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket that has been greeted."""
    url = f"{well.services['gateway']}/ws"
    async with session.ws_connect(url, protocols=("bearer", token)) as socket:
        assert (await socket.receive_json(timeout=10))["type"] == "connected"
        yield socket


async def _payment_told_of(socket: aiohttp.ClientWebSocketResponse) -> str | None:
    """The payment that the next message is about."""
    message = await socket.receive_json()
    if message["type"] != "event":
        return None
    told: str | None = message["payload"]["data"].get("paymentId")
    return told
