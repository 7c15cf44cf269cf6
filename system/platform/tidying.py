"""Throws away, once an hour, rows that no rule looks at any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, Protocol

_EVERY_S: Final = 3600.0
_log = logging.getLogger(__name__)


class Executing(Protocol):
    """The side of a database that is needed here."""

    async def execute(self, sql: str) -> object:
        """Run a statement."""


class Tidying:
    """Keeps a database from filling with what is over.

    Args:
        database: of the service.
        statements: each deletes rows of one kind by their age.
        every_s: seconds from one time to the next.
    """

    def __init__(
        self, database: Executing, statements: Sequence[str], *, every_s: float = _EVERY_S
    ) -> None:
        self._database = database
        self._statements = statements
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first time comes after one interval."""
        self._task = asyncio.create_task(self._run(), name="tidying")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def tidy(self) -> None:
        """Throw away once."""
        for statement in self._statements:
            await self._database.execute(statement)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.tidy()
            except Exception as error:  # tried again next time, whatever it was
                _log.warning("old rows not deleted: %s", type(error).__name__)
