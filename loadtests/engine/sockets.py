"""Sockets as a load generator needs them: from a source address, quick, many."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from typing import Any, NamedTuple

from harness import addresses as ways

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python names it from 3.12 on


class Way(NamedTuple):
    """How sockets get to a place.

    Attributes:
        family, peer: where they connect.
        relay: the relay at that peer, which takes the source address; None when it is bound here.
        binds: False when relays have the addresses and none leads to this place.
    """

    family: int
    peer: Any
    relay: tuple[str, int] | None
    binds: bool


async def look_up(host: str, port: int, addresses: tuple[str, ...]) -> Way:
    """How sockets get to a host.

    Args:
        addresses: source addresses that will be bound; they decide the family, as from 127.0.0.2
            one cannot reach ::1.

    Raises:
        OSError: the host has no such address.
    """
    relay = ways.relay_to(host, port) if addresses else None
    binds = bool(addresses) and ways.can_bind()
    family = socket.AF_UNSPEC
    if binds:
        family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    found = await asyncio.get_running_loop().getaddrinfo(
        *(relay or (host, port)), family=family, type=socket.SOCK_STREAM
    )
    return Way(found[0][0], found[0][4], relay, binds)


async def connected_socket(way: Way, address: str | None) -> socket.socket:
    """A non-blocking TCP socket, connected from a source address (None: the system's choice)."""
    sock = socket.socket(way.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address is not None and way.binds:
            # The kernel picks the port at connect time, so that thousands of connections from
            # one address do not run out of ports.
            if way.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((address, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, way.peer)
        if address is not None and way.relay is not None:
            await loop.sock_sendall(sock, ways.introduction(address, way.relay))
    except BaseException:
        sock.close()
        raise
    return sock


def client_tls(ca: str) -> ssl.SSLContext:
    """A verifying context for HTTP/1.1 that trusts one CA file (the system's CAs when empty)."""
    context = ssl.create_default_context(cafile=ca or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


def allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as it takes and the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
