"""TRUSTED_PROXIES (R1.40): fixed addresses, or networks where an orchestrator gives them out."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

_REMEMBERED: Final = 4096


class TrustedNetworks(frozenset[str]):
    """The fixed addresses, with whole networks beside them: `address in trusted` asks both.

    Attributes:
        networks: the entries that hold more than one address.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    _known: dict[str, bool]

    def __contains__(self, address: object) -> bool:
        if super().__contains__(address):
            return True
        if not isinstance(address, str):
            return False
        known = self._known.get(address)
        if known is None:
            known = self._covered(address)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known

    def _covered(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def trusted_proxies(entries: Iterable[str]) -> frozenset[str]:
    """What may be asked `address in trusted`, addresses in normal spelling.

    Args:
        entries: addresses and networks (`10.244.0.0/16`).

    Raises:
        ValueError: an entry is neither, or a network has bits set beyond its mask.
    """
    networks = [ip_network(entry) for entry in entries]
    single = (network for network in networks if network.num_addresses == 1)
    addresses = [str(network.network_address) for network in single]
    wide = tuple(network for network in networks if network.num_addresses > 1)
    if not wide:
        return frozenset(addresses)  # a plain set answers in C, which every request asks
    trusted = TrustedNetworks(addresses)
    trusted.networks = wide
    trusted._known = {}
    return trusted
