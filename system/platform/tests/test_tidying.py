"""Tidying: again and again, whatever happened the last time, until it is closed."""

from __future__ import annotations

import asyncio

from system.platform.tidying import Tidying


class FakeDatabase:
    """Notes what is executed; the first statement fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.executed: list[str] = []
        self.failures = failures
        self.enough = asyncio.Event()

    async def execute(self, sql: str) -> None:
        self.executed.append(sql)
        if len(self.executed) >= 5:
            self.enough.set()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")


async def test_it_goes_on_after_failures_and_ends_when_closed() -> None:
    """A database that is away costs one time, not the tidying."""
    database = FakeDatabase(failures=2)
    tidying = Tidying(database, ["first", "second"], every_s=0.001)

    await tidying.start()
    await asyncio.wait_for(database.enough.wait(), 5)
    await tidying.close()

    assert database.executed[:5] == ["first", "first", "first", "second", "first"]
    done = len(database.executed)
    await asyncio.sleep(0.01)
    assert len(database.executed) == done


async def test_nothing_is_deleted_before_its_time() -> None:
    """The start itself touches nothing."""
    database = FakeDatabase(failures=0)
    tidying = Tidying(database, ["first"])

    await tidying.start()
    await asyncio.sleep(0)
    await tidying.close()

    assert database.executed == []
