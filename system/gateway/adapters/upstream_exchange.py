"""One request to a service and its response: sent, waited for, cancelled (R1.13, R1.51)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from system.gateway.adapters.upstream_connection import Reply
from system.gateway.adapters.upstream_instance import Instance
from system.gateway.adapters.upstream_trouble import Silent


class Exchange:
    """One request to a service; a context that cancels it when it is left early (R1.51).

    Attributes:
        reply: the response, once `Upstream.send` has returned.
    """

    __slots__ = (
        "_instance",
        "_last",
        "_sent",
        "_timeout",
        "_timer",
        "_upload",
        "_waits_for_client",
        "reply",
    )

    def __init__(self, instance: Instance, reply: Reply, timeout_s: float) -> None:
        self.reply = reply
        self._instance = instance
        self._timeout = timeout_s
        self._last = 0.0
        self._sent = False
        self._waits_for_client = False
        self._upload: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(timeout_s, self._overdue)

    def send_whole(self, data: bytes) -> None:
        """Send head and body in one go."""
        self.reply.line.write(data)
        self._sent = True

    def send_stream(self, head: bytes, body: AsyncIterator[bytes], chunked: bool) -> None:
        """Send the head now and the body as it comes."""
        self.reply.line.write(head)
        self._upload = asyncio.get_running_loop().create_task(self._stream(body, chunked))

    async def _stream(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        line = self.reply.line
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._waits_for_client = True
                data = await anext(body, b"")
                self._waits_for_client = False
                self._last = loop.time()
                if not data:
                    break
                line.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await line.drain()
                self._last = loop.time()
                if line.closed:
                    return
            if chunked:
                line.write(b"0\r\n\r\n")
            self._sent = True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The client's half of the body is broken: so must be the request upstream.
            if not self.reply.head.done():
                self.reply.head.set_exception(error)
            line.abort()

    async def head(self) -> None:
        """Wait for the head of the response.

        Raises:
            Broken, Silent: as named; or whatever reading the client's body raised.
        """
        try:
            await self.reply.head
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def finish(self) -> None:
        """Give the connection back if the exchange is over, else end it: this is the cancelling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reply, line = self.reply, self.reply.line
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
        if not reply.head.done():
            reply.head.cancel()
        elif not reply.head.cancelled():
            reply.head.exception()  # seen, so that nobody complains about it
        line.reply = None
        if reply.complete and self._sent:
            reply.taken()
            self._instance.give_back(line)
        else:
            line.abort()

    async def upload_ended(self) -> None:
        """Wait until nobody reads the client's body any more; call it after `finish`."""
        if self._upload is not None:
            await asyncio.wait((self._upload,))

    def _overdue(self) -> None:
        """Fail the exchange, unless it is the client that keeps everybody waiting."""
        loop = asyncio.get_running_loop()
        if self._waits_for_client:
            self._last = loop.time()
        left = self._last + self._timeout - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._overdue)
            return
        self._timer = None
        self.reply.fail(Silent(f"no response head in {self._timeout:g} s"))
