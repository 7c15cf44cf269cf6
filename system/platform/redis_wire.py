"""One connection to Redis that all commands of a client share, answered in the order of asking.

redis-py opens a connection for each command that runs at the same time and passes every answer
through a stream, a timer and several layers; that costs more than all else of a cached read
(docs/decisions/0014).  Here a command is one write and one future.  redis-py still opens the
connection, with everything that belongs to it: encryption, log-in, database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError


class Wire(asyncio.Protocol):
    """An open connection; made by `open_wire`.

    Args:
        connection: that redis-py has opened and nobody else uses.
        timeout_s: seconds an answer may take; when one takes longer the connection is given up.
    """

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._lost: Exception | None = None
        writer = connection._writer
        assert writer is not None, "redis-py has opened it"
        self._transport = writer.transport
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether commands can still be sent."""
        return self._lost is None and not self._transport.is_closing()

    def send(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; the future gets its answer, as redis-py's parser would give it.

        Raises:
            RedisConnectionError: the connection is closed.
        """
        if not self.is_open:
            raise RedisConnectionError("the connection was closed") from self._lost
        answer: asyncio.Future[Any] = self._loop.create_future()
        now = self._loop.time()
        self._waiting.append((now, answer))
        self._transport.write(_packed(command))
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout_s, self._look)
        return answer

    def close(self) -> None:
        """Close it; whoever still waits is told."""
        self._give_up(RedisConnectionError("the client was closed"))

    def data_received(self, data: bytes) -> None:
        """Give the answers in `data` to those who wait for them."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                _, answer = self._waiting.popleft()
                if answer.done():
                    continue  # whoever asked has gone
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except (InvalidResponse, IndexError) as error:
            # Whose answer the next one is cannot be known any more.
            self._give_up(RedisConnectionError(f"an answer that nobody expected: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        self._give_up(RedisConnectionError(f"the connection was lost: {error or 'closed'}"))

    def pause_writing(self) -> None:
        """Commands are small; those who wait for answers are what bounds them."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def _look(self) -> None:
        """Give the connection up if the oldest question has waited too long.

        After a time in which this process stood still, the loop reads what came meanwhile first.
        """
        self._timer = None
        if not self._waiting:
            return
        due = self._waiting[0][0] + self._timeout_s
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._give_up(RedisTimeoutError(f"no answer in {self._timeout_s:g} s"))

    def _give_up(self, error: Exception) -> None:
        if self._lost is None:
            self._lost = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)
        self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call] # as in all of redis-py


_NOTHING: Final = object()


def _packed(command: tuple[Any, ...]) -> bytes:
    """Write a command as Redis reads it; the words of a two-word one stand apart."""
    name, *rest = command
    packed: bytes = hiredis.pack_command((*name.split(), *rest))
    return packed


async def open_wire(connection: AbstractConnection, timeout_s: float) -> Wire:
    """Open a connection of redis-py's and take it over.

    Raises:
        RedisError, OSError: Redis is not there, or does not let us in.
    """
    try:
        await connection.connect()  # type: ignore[no-untyped-call] # as in all of redis-py
    except BaseException:
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)
        raise
    return Wire(connection, timeout_s)
