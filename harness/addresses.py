"""Source addresses: bound by this machine, or taken by a relay that stands where they are at home.

A limit, an audit row, a session see the address that a connection comes from. Natively a probe
binds it. Behind a published port of a container every client has the same address, so there the
target file names relays (`[addresses.relays]`): a probe connects to the relay, says in a PROXY line
which address it wants to come from, and from then on speaks with the place itself. URLs, Host and
SNI stay those of the place.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import httpcore
import httpx

# Processes that this one starts (load engine, swarm, scanners) go the same ways.
VARIABLE = "SEATRIAL_RELAYS"
_PIECE = 256 * 1024  # bytes a forwarder carries at once


def use(relays: Mapping[str, str]) -> None:
    """From now on go these ways, here and in every process started from here; empty for none.

    Args:
        relays: ``host:port`` of a place → ``host:port`` of the relay that leads to it.
    """
    if relays:
        os.environ[VARIABLE] = json.dumps(dict(relays))
    else:
        os.environ.pop(VARIABLE, None)


def relay_to(host: str, port: int) -> tuple[str, int] | None:
    """The relay that leads to a place; None when there is none."""
    text = os.environ.get(VARIABLE)
    found = json.loads(text).get(f"{host}:{port}") if text else None
    if found is None:
        return None
    name, _, number = str(found).rpartition(":")
    return name.strip("[]"), int(number)


def can_bind() -> bool:
    """True when the addresses are this machine's own; false when relays have them."""
    return VARIABLE not in os.environ


def introduction(address: str, relay: tuple[str, int]) -> bytes:
    """What a relay is told first: the PROXY protocol's version 1 (HAProxy, proxy-protocol.txt).

    Args:
        address: the source address the relay shall connect from.
        relay: the destination as it is written down; relays do not look at it.
    """
    version = ipaddress.ip_address(address).version
    own = "127.0.0.1" if version == 4 else "::1"
    # The source port is the relay's choice; the protocol wants one written.
    return f"PROXY TCP{version} {address} {own} 1024 {relay[1]}\r\n".encode("ascii")


def connect(host: str, port: int, address: str | None, timeout: float | None) -> socket.socket:
    """A connected TCP socket to a place from a source address, bound or by relay.

    Args:
        address: None or empty leaves it to the system. Where relays have the addresses and none
            leads to this place, nobody looks at them there, and it is left to the system, too.
        timeout: seconds to connect, and of the socket from then on.

    Raises:
        OSError: nobody answered, or the address cannot be bound.
    """
    relay = relay_to(host, port) if address else None
    if relay is None or not address:
        source = (address, 0) if address and can_bind() else None
        return socket.create_connection((host, port), timeout, source_address=source)
    connection = socket.create_connection(relay, timeout)
    try:
        connection.sendall(introduction(address, relay))
    except BaseException:
        connection.close()
        raise
    return connection


class _ThroughRelays(httpcore.SyncBackend):
    """The ways of `connect` for httpx."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        relay = relay_to(host, port) if local_address else None
        if relay is None or not local_address:
            return super().connect_tcp(host, port, timeout, None, socket_options)
        stream = super().connect_tcp(*relay, timeout, None, socket_options)
        stream.write(introduction(local_address, relay), timeout)
        return stream


class Transport(httpx.HTTPTransport):
    """httpx's transport from a source address, bound or by relay.

    Args:
        verify: context for https.
        address: source address; None leaves it to the system.
        limits: of the connection pool.
    """

    def __init__(self, *, verify: Any, address: str | None, limits: httpx.Limits) -> None:
        super().__init__(verify=verify, local_address=address, limits=limits)
        if not can_bind():
            # httpx hands no network backend through, so the pool is told afterwards.
            self._pool._network_backend = _ThroughRelays()


@contextlib.contextmanager
def forwarder(host: str, port: int, address: str | None) -> Iterator[int]:
    """A port on 127.0.0.1 that leads to a place from a source address.

    For programs that can neither bind an address nor speak to a relay, such as browsers and
    scanners of their own process.

    Yields:
        the port; it is closed on exit, with all its connections.
    """
    open_now: set[socket.socket] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listening = threading.Thread(
            target=_forward, args=(listener, (host, port), address, open_now), daemon=True
        )
        listening.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listening.join(5)
            for connection in list(open_now):
                _end(connection)


def _forward(
    listener: socket.socket,
    place: tuple[str, int],
    address: str | None,
    open_now: set[socket.socket],
) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # closed: the forwarder ends
            return
        threading.Thread(
            target=_carry_both, args=(near, place, address, open_now), daemon=True
        ).start()


def _carry_both(
    near: socket.socket, place: tuple[str, int], address: str | None, open_now: set[socket.socket]
) -> None:
    open_now.add(near)
    try:
        with near:
            try:
                far = connect(*place, address, 10.0)
            except OSError:
                return  # the program sees its connection end, as it would see a refusal
            open_now.add(far)
            with far:
                carry(near, far)
            open_now.discard(far)
    finally:
        open_now.discard(near)


def carry(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes between two connections, both ways, until both have ended."""
    far.settimeout(None)
    back = threading.Thread(target=_carry_on, args=(far, near), daemon=True)
    back.start()
    _carry_on(near, far)
    back.join()


def _carry_on(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until the source ends, and tell the sink so."""
    try:
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    except OSError:  # reset: the other side shall see an end as well
        _end(source)
        _end(sink)
    else:
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
