"""Throws away counters and clients that no rule looks at any more, once an hour."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from system.platform.database import Database

_EVERY_S: Final = 3600.0
# Every rule is over long before: windows and locks last 15 min (R1.77), clients count 30 days
# (R1.79).
_STATEMENTS: Final = (
    "DELETE FROM login_throttles WHERE last_failure_at < now() - interval '1 day'",
    "DELETE FROM known_clients WHERE last_success_at < now() - interval '31 days'",
)
_log = logging.getLogger(__name__)


class Tidying:
    """Keeps guesses at e-mail addresses from filling auth_db.

    Args:
        database: auth_db.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first time comes an hour later."""
        self._task = asyncio.create_task(self._run(), name="tidying")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def tidy(self) -> None:
        """Throw away once."""
        for statement in _STATEMENTS:
            await self._database.execute(statement)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.tidy()
            except Exception as error:  # tried again in an hour, whatever it was
                _log.warning("old counters not deleted: %s", type(error).__name__)
