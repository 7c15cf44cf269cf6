"""Holds the wait for Redis to its limit, and to fairness on a machine that stands still."""

from __future__ import annotations

import asyncio
import time

import pytest

from system.platform.cache.patience import Patience


async def test_ends_a_wait_at_its_limit() -> None:
    """An answer that does not come is a TimeoutError."""
    with pytest.raises(TimeoutError):
        async with Patience(0.02):
            await asyncio.Event().wait()


async def test_leaves_a_quick_answer_alone() -> None:
    """Nothing happens to who is done in time, nor later to the task."""
    async with Patience(0.02):
        await asyncio.sleep(0)

    await asyncio.sleep(0.05)


async def test_own_standstill_is_not_counted() -> None:
    """What arrived while the process stood still is taken."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def stand_still() -> None:
        time.sleep(0.2)
        # Not at once: the timer is to find the answer still missing.
        loop.call_later(0.005, answer.set_result, "here")

    loop.call_later(0.01, stand_still)

    async with Patience(0.05, grace_s=5.0):
        assert await answer == "here"


async def test_a_cancelled_caller_stays_cancelled() -> None:
    """A cancellation from outside is not turned into a time-out."""

    async def wait() -> None:
        async with Patience(10):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
