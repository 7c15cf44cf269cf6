"""Finds the address of the client behind our own proxies (R1.40)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(maxsize=4096)
def normal_address(text: str) -> str | None:
    """Return an address in its one spelling, IPv4-mapped IPv6 as IPv4; None if it is none."""
    try:
        # A zone (`fe80::1%eth0`) names an interface of ours, not the client.
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def client_address(
    peer: str | None, forwarded_for: Iterable[str], trusted: frozenset[str]
) -> str | None:
    """Return the client's address (R1.40).

    Args:
        peer: address at the other end of the connection; None if it is no network connection.
        forwarded_for: values of all X-Forwarded-For headers, in order.
        trusted: TRUSTED_PROXIES in normal spelling.

    Returns:
        The peer, unless it is trusted: then the last forwarded entry that is not trusted itself,
        or the first if all are.  An entry that is no address ends the search: what stands before
        it cannot be believed, so the peer answers for it.
    """
    if peer is None:
        return None
    nearest = normal_address(peer) or peer
    if nearest not in trusted:
        return nearest
    found = nearest
    for value in reversed(list(forwarded_for)):
        for entry in reversed(value.split(",")):
            address = normal_address(entry)
            if address is None:
                return found
            found = address
            if address not in trusted:
                return found
    return found
