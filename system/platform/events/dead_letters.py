"""Reads, replays and removes what lies in the dead-letter queue (R3.54, R3.55)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import DeliveryError
from pamqp import commands

from system.platform.events import copies
from system.platform.events.connection import broker_url, close_quietly
from system.platform.events.envelope import now
from system.platform.events.topology import DEAD_LETTER_QUEUE

CONNECT_TIMEOUT_S: Final = 10.0
# Longest silence of a broker that still has messages to deliver.
SILENCE_S: Final = 5.0
WINDOW: Final = 200

# Called with how many messages were looked at, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue.

    Attributes:
        message_id: the event's id; for a message that came without one, a digest of its body.
        queue: the service's queue it failed in; "" if it does not say.
        kind: handler, malformed, or "" if it does not say.
    """

    message: DeliveredMessage

    @property
    def _headers(self) -> dict[str, Any]:
        return dict(copies.headers_of(self.message))

    def _text(self, header: str) -> str:
        value = self._headers.get(header)
        return value if isinstance(value, str) else ""

    @property
    def message_id(self) -> str:
        found = self.message.header.properties.message_id
        return found or f"sha256-{hashlib.sha256(self.message.body).hexdigest()[:32]}"

    @property
    def queue(self) -> str:
        return self._text(copies.ORIGINAL_QUEUE)

    def summary(self) -> dict[str, Any]:
        """What `list` shows of it."""
        return {
            "messageId": self.message_id,
            "type": self.message.header.properties.message_type,
            "queue": self.queue,
            "routingKey": self._text(copies.ORIGINAL_ROUTING_KEY),
            "failureKind": self._text(copies.FAILURE_KIND),
            "attempts": self._headers.get(copies.ATTEMPTS_DONE),
            "error": self._text(copies.ERROR),
            "firstFailureAt": self._text(copies.FIRST_FAILURE_AT),
            "lastFailureAt": self._text(copies.LAST_FAILURE_AT),
            "size": len(self.message.body),
        }

    def whole(self) -> dict[str, Any]:
        """What `inspect` shows of it: all properties, all headers and the body.

        The body is `body` when it is JSON, else `text` when it is UTF-8, else `base64`.
        """
        properties = self.message.header.properties
        shown: dict[str, Any] = {
            **self.summary(),
            "properties": {
                name: _plain(value)
                for name, value in properties
                if name != "headers" and value not in (None, "")
            },
            "headers": _plain(self._headers),
        }
        body = self.message.body
        try:
            shown["body"] = json.loads(body)
        except ValueError:
            try:
                shown["text"] = body.decode()
            except UnicodeDecodeError:
                shown["base64"] = base64.b64encode(body).decode()
        return shown


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; all that are given must fit, none given means all."""

    message_id: str | None = None
    queue: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is meant."""
        return (self.message_id is None or letter.message_id == self.message_id) and (
            self.queue is None or letter.queue == self.queue
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a replay.

    Attributes:
        replayed: ids sent back to their queues.
        failed: (id, reason) of those that stay where they were.
    """

    replayed: list[str]
    failed: list[tuple[str, str]]


class DeadLetters:
    """The dead-letter queue of one broker; made by `open_dead_letters`.

    Looking takes messages without acknowledging them and then closes the channel: a classic
    queue puts them back into their places with their contents, so the order stays.  Only what is
    in the queue at the beginning is looked at; what dies meanwhile waits for the next call.
    """

    def __init__(self, connection: AbstractConnection, user: str) -> None:
        self._connection = connection
        self._user = user

    async def read(
        self,
        selection: Selection,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> list[DeadLetter]:
        """Return the selected dead letters, oldest first, at most `limit`."""
        found: list[DeadLetter] = []
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            async for letter in _letters(channel, progress):
                if selection.fits(letter):
                    found.append(letter)
                    if limit is not None and len(found) >= limit:
                        break
        finally:
            await close_quietly(channel)
        return found

    async def replay(self, selection: Selection, progress: Progress | None = None) -> Replay:
        """Send the selected back to their queues; each leaves the DLQ after its confirm."""
        outcome = Replay([], [])
        channel = await self._connection.channel(publisher_confirms=False)
        sender = await self._connection.channel(publisher_confirms=True)
        window: list[DeadLetter] = []
        try:
            async for letter in _letters(channel, progress):
                if selection.fits(letter):
                    window.append(letter)
                if len(window) >= WINDOW:
                    await self._send(channel, sender, window, outcome)
                    window = []
            await self._send(channel, sender, window, outcome)
        finally:
            await close_quietly(sender)
            await close_quietly(channel)
        return outcome

    async def purge(self, selection: Selection, progress: Progress | None = None) -> int:
        """Remove the selected for good; return how many."""
        removed = 0
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            async for letter in _letters(channel, progress):
                if selection.fits(letter) and letter.message.delivery_tag is not None:
                    await channel.basic_ack(letter.message.delivery_tag, wait=False)
                    removed += 1
            await _settle(channel)
        finally:
            await close_quietly(channel)
        return removed

    async def _send(
        self,
        channel: AbstractChannel,
        sender: AbstractChannel,
        window: list[DeadLetter],
        outcome: Replay,
    ) -> None:
        at = now()
        sent: list[tuple[DeadLetter, copies.Copy]] = []
        for letter in window:
            copied = copies.replayed(letter.message, at=at, user=self._user)
            if copied is None:
                outcome.failed.append((letter.message_id, f"has no header {copies.ORIGINAL_QUEUE}"))
            else:
                sent.append((letter, copied))
        results = await asyncio.gather(
            *(
                sender.basic_publish(
                    copied.body,
                    exchange=copied.exchange,
                    routing_key=copied.routing_key,
                    properties=copied.properties,
                    mandatory=True,
                )
                for _, copied in sent
            ),
            return_exceptions=True,
        )
        for (letter, copied), result in zip(sent, results, strict=True):
            if isinstance(result, commands.Basic.Ack):
                tag = letter.message.delivery_tag
                if tag is not None:
                    await channel.basic_ack(tag, wait=False)
                outcome.replayed.append(letter.message_id)
            elif isinstance(result, DeliveryError):
                outcome.failed.append(
                    (letter.message_id, f"queue {copied.routing_key} does not take it")
                )
            else:
                outcome.failed.append((letter.message_id, f"not confirmed: {result!r}"))
        await _settle(channel)


@asynccontextmanager
async def open_dead_letters(url: str) -> AsyncIterator[DeadLetters]:
    """Connect to the broker at `url` (RABBITMQ_URL).

    Raises:
        AMQPError, OSError, TimeoutError: it is not reachable or refuses the account.
    """
    target = broker_url(url)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        connection = await aiormq.connect(target)
    try:
        yield DeadLetters(connection, target.user or "guest")
    finally:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.close(ConnectionError("closed by us"))


async def _letters(
    channel: AbstractChannel, progress: Progress | None
) -> AsyncIterator[DeadLetter]:
    """Take what is in the queue now, in order, without acknowledging it."""
    declared = await channel.queue_declare(queue=DEAD_LETTER_QUEUE, passive=True)
    total = declared.message_count or 0
    if total == 0:
        return
    arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    channel.closing.add_done_callback(lambda _: arrived.put_nowait(None))
    await channel.basic_consume(DEAD_LETTER_QUEUE, arrived.put)
    for seen in range(1, total + 1):
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await arrived.get()
        except TimeoutError:
            return  # another reader holds or took the rest
        if message is None:
            raise ConnectionError(f"the broker went away after {seen - 1} of {total} messages")
        if progress is not None:
            progress(seen, total)
        yield DeadLetter(message)


async def _settle(channel: AbstractChannel) -> None:
    """Wait until the broker has taken all acknowledgements sent on a channel."""
    await channel.queue_declare(queue=DEAD_LETTER_QUEUE, passive=True)


def _plain(value: Any) -> Any:
    """A header or property as JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(bytes(value)).decode()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
