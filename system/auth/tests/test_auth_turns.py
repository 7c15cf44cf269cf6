"""Turns: in order, bounded in time, and over for all when one finds the database away (R1.14)."""

from __future__ import annotations

import asyncio
import time

import pytest

from system.auth.service.turns import WAIT_S, Turns
from system.platform.http import errors
from system.platform.http.errors import ApiError


class Holder:
    """Somebody who has a turn until told how it ends."""

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns = turns
        self._key = key
        self.has_it = asyncio.Event()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(self._hold())

    async def _hold(self) -> str:
        try:
            async with self._turns.of(self._key):
                self.has_it.set()
                await self.end
        except ApiError as refused:
            return refused.code
        return "served"


async def begin(turns: Turns, *keys: str) -> list[Holder]:
    """Let them come one after the other."""
    holders = []
    for key in keys:
        holders.append(Holder(turns, key))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return holders


@pytest.mark.parametrize("keys", [("a", "a", "a"), ("a", "b", "c")])
async def test_r1_81_turns_come_in_order(keys: tuple[str, ...]) -> None:
    """One key or one place: each has it alone."""
    turns = Turns(1)
    holders = await begin(turns, *keys)
    for number, holder in enumerate(holders):
        assert [other.has_it.is_set() for other in holders[number:]] == [True] + [False] * (
            len(holders) - number - 1
        )
        holder.end.set_result(None)
        assert await holder.task == "served"
        await asyncio.sleep(0)


@pytest.mark.parametrize("places", [1, None])
async def test_r6_11_nobody_waits_for_what_another_waited_for_in_vain(places: int | None) -> None:
    """The database is away for one: all behind it are told so at once, whatever their key."""
    turns = Turns(places)
    first, *others = await begin(turns, "a", "a", "a", *(("b", "c") if places else ()))
    began = time.monotonic()
    first.end.set_exception(errors.service_unavailable())

    assert await first.task == "SERVICE_UNAVAILABLE"
    assert [await other.task for other in others] == ["SERVICE_UNAVAILABLE"] * len(others)
    assert time.monotonic() - began < WAIT_S / 2
    assert not any(other.has_it.is_set() for other in others)

    (next_one,) = await begin(turns, "a")
    assert next_one.has_it.is_set()
    next_one.end.set_result(None)
    assert await next_one.task == "served"


@pytest.mark.parametrize("error", [errors.invalid_credentials(), errors.token_revoked()])
async def test_a_refusal_of_one_is_none_of_the_others(error: ApiError) -> None:
    """Only a dependency that is away says anything about those behind."""
    turns = Turns(1)
    first, second = await begin(turns, "a", "a")
    first.end.set_exception(error)
    await first.task
    await second.has_it.wait()
    second.end.set_result(None)

    assert await second.task == "served"


async def test_r1_14_a_turn_that_does_not_come_is_a_503_in_time() -> None:
    """Whoever holds it is slow, and the others are told before the gateway gives up."""
    turns = Turns(1, wait_s=0.05)
    first, second = await begin(turns, "a", "b")

    assert await asyncio.wait_for(second.task, 1) == "SERVICE_UNAVAILABLE"
    first.end.set_result(None)
    assert await first.task == "served"
    assert WAIT_S < 3.0


async def test_a_caller_who_goes_away_leaves_the_queue() -> None:
    """Its place is the next one's."""
    turns = Turns(1)
    first, second, third = await begin(turns, "a", "b", "c")
    second.task.cancel()
    first.end.set_result(None)
    await third.has_it.wait()
    third.end.set_result(None)

    assert [await first.task, await third.task] == ["served", "served"]
    assert second.task.cancelled() or second.task.cancelling()
