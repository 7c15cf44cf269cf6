"""Tells the instances of a service through their own database that Redis missed a removal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import asyncpg

CHANNEL: Final = "cache_doubt"
_CONNECT_TIMEOUT_S: Final = 2.0
_ANNOUNCE_TIMEOUT_S: Final = 0.5
_RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)


class Notices(Protocol):
    """A way around Redis by which instances of a service tell each other of doubt."""

    @property
    def listening(self) -> bool:
        """Whether notices of others arrive."""

    async def start(self, heard: Callable[[], None]) -> None:
        """Begin to listen; `heard` is called for each notice and whenever some may be missed."""

    async def announce(self) -> None:
        """Tell the others; never raises."""

    async def close(self) -> None:
        """Stop."""


class NullNotices:
    """Tells nobody: for a service of which there is one instance."""

    listening = True

    async def start(self, heard: Callable[[], None]) -> None:
        """Hear nothing."""

    async def announce(self) -> None:
        """Tell nobody."""

    async def close(self) -> None:
        """Nothing to stop."""


class PostgresNotices:
    """Notices by LISTEN and NOTIFY, on one connection of its own.

    While it is not connected it may miss a notice, so `listening` is False then and the cache
    stays in doubt; without its database a service has nothing to write anyway.

    Args:
        url: the service's database, runtime role.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None  # asyncpg ships no types
        self._heard: Callable[[], None] = _ignore
        self._keeper: asyncio.Task[None] | None = None
        # Of the present line: what one line's end has set must not end the next one.
        self._lost = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def listening(self) -> bool:
        """See `Notices.listening`."""
        return self._connection is not None and not self._connection.is_closed()

    async def start(self, heard: Callable[[], None]) -> None:
        """See `Notices.start`; connects in the background (R0.10)."""
        self._heard = heard
        first_try = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep_listening(first_try))
        await first_try.wait()

    async def announce(self) -> None:
        """See `Notices.announce`."""
        if not self.listening:
            # The write that asks for this has just used the database; another process that lost
            # its own line is in doubt by itself.
            _log.warning("cache notice not sent: no connection to the database; trying again")
            return
        connection, lost = self._connection, self._lost
        try:
            # One statement at a time is all that a connection takes.
            async with asyncio.timeout(_ANNOUNCE_TIMEOUT_S), self._turn:
                await connection.execute(f"NOTIFY {CHANNEL}")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            _log.warning("cache notice not sent: the database did not take it")
            lost.set()

    async def close(self) -> None:
        """See `Notices.close`."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._drop()

    async def _keep_listening(self, first_try: asyncio.Event) -> None:
        while True:
            lost = asyncio.Event()
            try:
                connection = await asyncpg.connect(self._url, timeout=_CONNECT_TIMEOUT_S)
                connection.add_termination_listener(_setter(lost))
                await connection.add_listener(CHANNEL, self._on_notice)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                first_try.set()
                await asyncio.sleep(_RETRY_S)
                continue
            self._connection, self._lost = connection, lost
            first_try.set()
            await lost.wait()
            await self._drop()
            self._heard()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not close(): with the database hanging it would wait.
            connection.terminate()

    def _on_notice(self, *_: object) -> None:
        self._heard()


def _setter(event: asyncio.Event) -> Callable[..., None]:
    def on_lost(*_: object) -> None:
        event.set()

    return on_lost


def _ignore() -> None:
    """Nobody listens yet."""
