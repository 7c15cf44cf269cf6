"""Keeps one connection to the broker alive, with the topology in place (R3.8, R3.20)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, ChannelClosed
from yarl import URL

from system.platform.events.backoff import Backoff
from system.platform.events.topology import (
    DEFAULT_EXCHANGE,
    Binding,
    Exchange,
    Queue,
    topology,
)

_log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 10
FIRST_DELAY_S: Final = 1.0
MOST_DELAY_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
HEALTH_TIMEOUT_S: Final = 1.5
CLOSE_TIMEOUT_S: Final = 3.0

# What the client library raises when the broker or the way to it is in trouble. RuntimeError is
# its ChannelInvalidStateError ("channel closed"); a pending call of a channel that goes down may
# also end as cancelled, see `cancelled_by_caller`.
TROUBLE: Final = (AMQPError, OSError, TimeoutError, aiormq.exceptions.ChannelInvalidStateError)


def cancelled_by_caller() -> bool:
    """Whether the running task itself was asked to end.

    The client library also ends pending calls of a closing channel with CancelledError, which is
    a lost connection and no request to stop.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def broker_url(url: str) -> URL:
    """Read a broker's URL (RABBITMQ_URL); without a path it means the vhost `/`."""
    parsed = URL(url)
    return parsed.with_path("//") if parsed.path in ("", "/") else parsed


async def close_quietly(channel: AbstractChannel) -> None:
    """Close a channel, whatever state it and its connection are in.

    What was delivered on it and not acknowledged goes back to its place in the queue.
    """
    if channel.is_closed:
        return
    with contextlib.suppress(*TROUBLE, asyncio.CancelledError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await channel.close(ConnectionError("closed by us"))


async def declare(channel: AbstractChannel, exchange: str = DEFAULT_EXCHANGE) -> None:
    """Declare the whole topology; without effect where it stands already.

    Raises:
        ChannelClosed: an object exists with other properties; the channel is then closed.
    """
    for entry in topology(exchange).objects():
        await _declare_one(channel, entry)


async def _declare_one(channel: AbstractChannel, entry: Exchange | Queue | Binding) -> None:
    if isinstance(entry, Exchange):
        await channel.exchange_declare(exchange=entry.name, exchange_type=entry.type, durable=True)
    elif isinstance(entry, Queue):
        await channel.queue_declare(queue=entry.name, durable=True, arguments=dict(entry.arguments))
    else:
        await channel.queue_bind(
            queue=entry.queue, exchange=entry.exchange, routing_key=entry.routing_key
        )


class Connection:
    """One connection that comes back by itself, without end (R3.20).

    Args:
        url: amqp://user:password@host:port[/vhost].
        name: shown in the broker's management pages.
        exchange: name of the topic exchange (RABBITMQ_EXCHANGE).
    """

    def __init__(self, url: str, *, name: str = "", exchange: str = DEFAULT_EXCHANGE) -> None:
        parsed = broker_url(url)
        query = {"heartbeat": str(HEARTBEAT_S), "name": name}
        self._url = parsed.update_query({k: v for k, v in query.items() if v})
        self.exchange = exchange
        self.user = parsed.user or "guest"
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._health_channel: AbstractChannel | None = None
        self._delay = Backoff(FIRST_DELAY_S, MOST_DELAY_S)

    async def start(self) -> None:
        """Begin connecting; returns at once and never fails for want of a broker (R0.10)."""
        if self._task is None:
            # Each failed attempt is one line of ours; the library would add one of its own.
            logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
            self._task = asyncio.create_task(self._keep(), name="broker connection")

    async def close(self) -> None:
        """Close the connection and stop trying."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._up.clear()
        await self._drop()

    @property
    def connected(self) -> bool:
        """Whether there is a connection with the topology declared on it, as far as is known."""
        return self._up.is_set()

    async def ready(self) -> None:
        """Wait until there is a connection with the topology declared on it."""
        await self._up.wait()

    async def channel(self, *, confirms: bool = True) -> AbstractChannel:
        """Open a channel, waiting for the connection as long as it takes.

        Raises:
            AMQPError, OSError, TimeoutError: the connection broke meanwhile; try again.
        """
        await self._up.wait()
        connection = self._connection
        if connection is None:
            raise ConnectionError("the connection to the broker was closed")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await connection.channel(publisher_confirms=confirms)

    async def health(self) -> bool:
        """Ask the broker for a sign of life now; False when there is none within 1.5 s (R1.55)."""
        if not self._up.is_set():
            return False
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S), self._asking:
                channel = self._health_channel
                if channel is None or channel.is_closed:
                    connection = self._connection
                    if connection is None:
                        return False
                    channel = self._health_channel = await connection.channel(
                        publisher_confirms=False
                    )
                await channel.exchange_declare(exchange=self.exchange, passive=True)
        except asyncio.CancelledError:
            if cancelled_by_caller():
                raise
            return False
        except TROUBLE:
            return False
        return True

    async def declare(self) -> None:
        """Declare the topology again, as far as the broker lets us; logs what it refuses."""
        connection = self._connection
        if connection is None:
            raise ConnectionError("the connection to the broker was closed")
        channel = await connection.channel(publisher_confirms=False)
        for entry in topology(self.exchange).objects():
            try:
                await _declare_one(channel, entry)
            except ChannelClosed as refused:
                # Better to work with an object that differs than not at all.
                _log.error("the broker refused %s: %s", entry, refused)
                channel = await connection.channel(publisher_confirms=False)
        await channel.close()

    async def _keep(self) -> None:
        while True:
            try:
                await self._connect_once()
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
                reason = "the connection was closed"
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._up.clear()
            await self._drop()
            if cancelled_by_caller():
                raise asyncio.CancelledError
            delay = self._delay.next()
            _log.warning("broker not reachable (%s); next try in %.1f s", reason, delay)
            await asyncio.sleep(delay)

    async def _connect_once(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            self._connection = await aiormq.connect(self._url)
            closing = self._connection.closing
            await self.declare()
        self._delay.reset()
        self._up.set()
        _log.info("connected to the broker")
        await closing
        raise ConnectionError("the broker closed the connection")

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._health_channel = None
        if connection is None or connection.is_closed:
            return
        with contextlib.suppress(Exception, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.close(ConnectionError("closed by us"))
