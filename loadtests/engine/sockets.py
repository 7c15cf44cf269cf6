"""Sockets as a load generator needs them: bound to a source address, quick, many."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from typing import Any

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python names it from 3.12 on


async def look_up(host: str, port: int, addresses: tuple[str, ...]) -> tuple[int, Any]:
    """The family and peer address for a host.

    Args:
        addresses: source addresses that will be bound; they decide the family, as from 127.0.0.2
            one cannot reach ::1.

    Raises:
        OSError: the host has no such address.
    """
    family = socket.AF_UNSPEC
    if addresses:
        family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM
    )
    return found[0][0], found[0][4]


async def connected_socket(family: int, peer: Any, address: str | None) -> socket.socket:
    """A non-blocking TCP socket, connected from a source address (None: the system's choice)."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address is not None:
            # The kernel picks the port at connect time, so that thousands of connections from
            # one address do not run out of ports.
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(sock, peer)
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
