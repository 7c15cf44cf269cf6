"""The HTTP client of one service that calls another (R0.13)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import ResolveResult


class InTurn(aiohttp.ThreadedResolver):
    """Gives the addresses behind a name beginning with another one each time.

    A system sorts them by nearness (RFC 6724), so that the first would get everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = itertools.count()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a host.

        Raises:
            OSError: it is not known.
        """
        found = await super().resolve(host, port, family)
        first = next(self._turn) % len(found) if found else 0
        return found[first:] + found[:first]


def session(seconds: float, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    """A client; to be made in a running event loop and closed by whoever made it.

    Behind a name stand all members that run at the moment, so it is looked up for each
    connection: what was true a moment ago would leave out the one member that is back when the
    other one restarts.

    Args:
        seconds: for a whole exchange.
        headers: of every request.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        headers=headers,
        connector=aiohttp.TCPConnector(use_dns_cache=False, resolver=InTurn()),
    )
