"""Speaks HTTP/1.1 to the services: pooled connections, streaming both ways, no request twice.

One `Upstream` stands for one service with all its instances.  `send` gives the response as soon as
its head is there; the body follows through `Reply.chunk`.  aiohttp's client is not used here: it
repeats PUT and DELETE on a connection that broke, which R1.52 forbids
(docs/decisions/0004-gateway-wire.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from system.gateway.adapters.upstream_connection import Connection, Reply
from system.gateway.adapters.upstream_exchange import Exchange
from system.gateway.adapters.upstream_instance import Instance
from system.gateway.adapters.upstream_trouble import Broken, Refused, Silent


class Upstream:
    """A service with its instances.

    Requests go round the instances; another one is tried only while no connection could be made,
    so nothing is ever done twice (R0.13, R1.52).

    Args:
        name: for the log.
        urls: `http://host:port` of each instance.
        timeout_s: for connecting and for the response head (R1.13).
        source_address: local address to connect from; None leaves it to the system.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        timeout_s: float,
        source_address: str | None = None,
    ) -> None:
        if not urls:
            raise ValueError(f"seen no address of {name}, expected at least one")
        self.name: Final = name
        self._instances = tuple(Instance(url, source_address) for url in urls)
        self._timeout = timeout_s
        self._turn = 0

    async def send(
        self,
        method: bytes,
        path: bytes,
        headers: bytes,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        chunked: bool = False,
        timeout_s: float | None = None,
    ) -> Exchange:
        """Send a request and wait for the head of the response.

        Args:
            method: as in the request line.
            path: escaped, with query.
            headers: lines, each with its end, without `Host`; framing included.
            body: whole, or as it comes.
            chunked: the framing of a body that comes in pieces and has no length.
            timeout_s: instead of the service's own.

        Returns:
            The exchange; the caller must `finish` it, whatever happens.

        Raises:
            UpstreamTrouble: see the module.
        """
        timeout = self._timeout if timeout_s is None else timeout_s
        repeatable = method == b"GET" and body == b""
        while True:
            instance, connection = await self._connection(timeout)
            reused = connection.used
            connection.used = True
            connection.keep = False
            reply = Reply(asyncio.get_running_loop().create_future(), connection)
            connection.reply = reply
            exchange = Exchange(instance, reply, timeout)
            head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
                method,
                path,
                instance.authority,
                headers,
            )
            try:
                if isinstance(body, bytes):
                    exchange.send_whole(head + body)
                else:
                    exchange.send_stream(head, body, chunked)
                await exchange.head()
            except Broken:
                exchange.finish()
                # A GET has no effect; on a connection that the service closed while it was idle
                # it was not even seen (RFC 9112, 9.3.1).  On a fresh one it may have been.
                if repeatable and reused and not reply.headers:
                    continue
                raise
            except BaseException:
                exchange.finish()
                raise
            return exchange

    async def fetch(
        self, path: str, headers: dict[str, str], *, timeout_s: float, limit: int = 1_000_000
    ) -> tuple[int, bytes]:
        """GET a small document.

        Raises:
            UpstreamTrouble: no answer, or one of more than `limit` bytes.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        exchange = await self.send(b"GET", path.encode(), lines, timeout_s=timeout_s)
        try:
            document = bytearray()
            try:
                async with asyncio.timeout(timeout_s):
                    while data := await exchange.reply.chunk():
                        document += data
                        if len(document) > limit:
                            raise Broken(f"more than {limit} bytes")
            except TimeoutError as error:
                raise Silent(f"body not complete in {timeout_s:g} s") from error
            return exchange.reply.status, bytes(document)
        finally:
            exchange.finish()

    def close(self) -> None:
        """Close idle connections; exchanges under way end with their owners."""
        for instance in self._instances:
            instance.close()

    async def _connection(self, timeout_s: float) -> tuple[Instance, Connection]:
        count = len(self._instances)
        # Others take their turns while a connection is made; each must get round all instances.
        turn = self._turn = (self._turn + 1) % count
        fault: OSError | None = None
        for step in range(count):
            instance = self._instances[(turn + step) % count]
            connection = instance.idle()
            if connection is not None:
                return instance, connection
            try:
                async with asyncio.timeout(timeout_s):
                    return instance, await instance.connect()
            except TimeoutError as error:
                raise Silent(f"{self.name}: no connection in {timeout_s:g} s") from error
            except OSError as error:
                fault = error
        raise Refused(f"{self.name}: {fault}") from fault
