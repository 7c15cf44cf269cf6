"""One instance of a service: its address and its idle connections."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import Final
from urllib.parse import urlsplit

from system.gateway.adapters.upstream_connection import Connection

# Services drop idle connections after 5 s or more; the gateway must be earlier, or a request could
# meet a connection that is just being closed.
IDLE_S: Final = 4.0
_IDLE_LIMIT: Final = 256


class Instance:
    """One address of a service with its idle connections.

    Args:
        url: `http://host:port`, without a path.
        source_address: local address to connect from, or None.
    """

    def __init__(self, url: str, source_address: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"seen {url!r}, expected http://host:port")
        self.host: Final = parts.hostname
        self.port: Final = parts.port or 80
        self.authority: Final = parts.netloc.rpartition("@")[2].encode()
        self._source = source_address
        self._turn = 0
        self._idle: list[Connection] = []
        self._reaper: asyncio.TimerHandle | None = None

    def idle(self) -> Connection | None:
        """A connection that is open and was used a moment ago, or None."""
        limit = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.closed or connection.transport is None:
                continue
            if connection.idle_since < limit or connection.transport.is_closing():
                connection.abort()
                continue
            return connection
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose exchange is over."""
        if connection.closed or not connection.keep or len(self._idle) >= _IDLE_LIMIT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._reaper is None:
            self._reaper = asyncio.get_running_loop().call_later(IDLE_S, self._reap)

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            OSError: refused, unreachable, unknown name.
        """
        loop = asyncio.get_running_loop()
        local = (self._source, 0) if self._source else None
        connection: Connection
        fault: OSError = ConnectionRefusedError(f"{self.host} has no address")
        for address in await self._addresses(loop):
            try:
                _, connection = await loop.create_connection(
                    Connection, address, self.port, local_addr=local
                )
            except OSError as error:
                fault = error
                continue
            assert connection.transport is not None
            handle = connection.transport.get_extra_info("socket")
            if handle is not None:
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        raise fault

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            pass
        else:
            return [self.host]
        family = socket.AF_UNSPEC
        if self._source is not None:
            version = ipaddress.ip_address(self._source).version
            family = socket.AF_INET if version == 4 else socket.AF_INET6
        found = await loop.getaddrinfo(self.host, self.port, family=family, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # Sorted by nearness (RFC 6724), so that the first of several would get everything.
        self._turn += 1
        first = self._turn % len(addresses)
        return addresses[first:] + addresses[:first]

    def close(self) -> None:
        """Close what is idle."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _reap(self) -> None:
        """Close connections that have been idle for too long, and those the service closed."""
        limit = time.monotonic() - IDLE_S
        kept = []
        for connection in self._idle:
            if connection.closed:
                continue
            if connection.idle_since <= limit:
                connection.abort()
            else:
                kept.append(connection)
        self._idle = kept
        self._reaper = (
            asyncio.get_running_loop().call_later(IDLE_S / 2, self._reap) if kept else None
        )
