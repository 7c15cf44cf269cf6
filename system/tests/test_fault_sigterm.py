"""SIGTERM while requests are under way: they are finished, WebSockets get 1001, exit code 0."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import httpx
import pytest

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Burst, Desk, locked, new_key, pids, until

pytestmark = pytest.mark.platform

# Below the ten connections that a service has for its database.
_UNDER_WAY = 5
_GRACE_S = 10.0
# Together with the way to it well below the 1.75 s that a statement may take.
_HELD_S = 0.5


def _exit_code(pid: int) -> int | None:
    """How a process of ours ended, left for the stack to collect; None while it runs."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _is_child(pid: int) -> bool:
    """Whether this process can learn its exit code."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@contextmanager
def _ended(stack: RunningStack, part: str) -> Iterator[int]:
    """A process that the test ends by its pid; another runs afterwards, whatever became of it."""
    if not _is_child(pids(stack)[part]):
        stack.control(part, "restart")  # a command of an earlier test started it
    pid = pids(stack)[part]
    assert pid > 0  # 0 would name the tests' own processes
    try:
        yield pid
    finally:
        stack.control(part, "restart")


def _refuses(stack: RunningStack, part: str) -> bool:
    """True if nobody listens at a process's port any more."""
    try:
        httpx.get(f"{stack.services[part]}/health/live", timeout=5)
    except httpx.ConnectError:
        return True
    return False


@pytest.mark.parametrize("service", SERVICES)
def test_r0_11_a_service_finishes_what_is_under_way(
    well: RunningStack, desk: Desk, service: str
) -> None:
    """Writes that wait for a lock at SIGTERM succeed; nothing new is accepted; exit code 0."""
    desk.write(service, "warm-up")
    with _ended(well, service) as pid:
        with locked(well, service) as blocked:
            burst = Burst(desk, service, _UNDER_WAY)
            until(lambda: blocked() == _UNDER_WAY, 5)
            os.kill(pid, signal.SIGTERM)
            until(lambda: _refuses(well, service), 5)
            assert _exit_code(pid) is None
            assert not burst.done()
        answers = burst.answers()
        until(lambda: _exit_code(pid) is not None, _GRACE_S)
        assert _exit_code(pid) == 0

    assert [answer.status_code for answer in answers.values() if not answer.is_success] == []
    desk.all_arrived_once(service, answers)


def test_r0_11_a_service_finishes_the_event_it_handles(well: RunningStack, desk: Desk) -> None:
    """An audit row that waits for a lock at SIGTERM is there when the process has ended, once."""
    key = new_key()
    with _ended(well, "admin") as pid:
        with locked(well, "admin", "audit_logs") as blocked:
            assert desk.write("payments", key).is_success
            until(lambda: blocked() > 0, 5)
            os.kill(pid, signal.SIGTERM)
            until(lambda: _refuses(well, "admin"), 5)
            # Long enough for a process that does not wait for its handler to end without it.
            held = time.monotonic() + _HELD_S
            while time.monotonic() < held:
                assert _exit_code(pid) is None
                time.sleep(0.02)
        until(lambda: _exit_code(pid) is not None, _GRACE_S)
        assert _exit_code(pid) == 0
        assert desk.arrivals("payments", key) == 1
    desk.all_arrived_once("payments", [key])


async def test_r0_11_the_gateway_finishes_what_is_under_way(well: RunningStack, desk: Desk) -> None:
    """Requests in flight are answered, a WebSocket is closed with 1001, and the exit code is 0."""
    url = f"{well.services['gateway']}/ws"
    with _ended(well, "gateway") as pid:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=("bearer", desk.token("customer"))) as socket,
        ):
            assert (await socket.receive_json(timeout=10))["type"] == "connected"
            with locked(well, "payments") as blocked:
                burst = Burst(desk, "payments", _UNDER_WAY)
                await asyncio.to_thread(until, lambda: blocked() == _UNDER_WAY, 5)
                os.kill(pid, signal.SIGTERM)
                async with asyncio.timeout(5):
                    while not socket.closed:
                        await socket.receive()
                assert socket.close_code == 1001
                assert not burst.done()
                assert _refuses(well, "gateway")
            answers = await asyncio.to_thread(burst.answers)
            await asyncio.to_thread(until, lambda: _exit_code(pid) is not None, _GRACE_S)
            assert _exit_code(pid) == 0

    assert [answer.status_code for answer in answers.values() if not answer.is_success] == []
    await asyncio.to_thread(desk.all_arrived_once, "payments", answers)
