"""Reconciles the copy of users in the background, after every start (R1.134)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from system.platform.events.backoff import Backoff

FIRST_DELAY_S: Final = 0.5
# Whoever was away is asked again well within the 10 s of R0.10 and R1.134.
MOST_DELAY_S: Final = 3.0
_log = logging.getLogger(__name__)


class Reconciling:
    """Tries until it has succeeded once.

    Args:
        reconcile: raises if it could not be done.
    """

    def __init__(self, reconcile: Callable[[], Awaitable[None]]) -> None:
        self._reconcile = reconcile
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns at once whatever state database and auth-service are in (R0.10)."""
        self._task = asyncio.create_task(self._run(), name="reconciliation of users")

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        delay = Backoff(FIRST_DELAY_S, MOST_DELAY_S)
        while True:
            try:
                await self._reconcile()
            except Exception as error:  # whatever it was, the copy has to become complete
                _log.warning("users not reconciled, trying again: %s", type(error).__name__)
                await asyncio.sleep(delay.next())
            else:
                return
