"""Knows the client addresses that no count of failed logins refuses (R1.44)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address

from system.platform.config.settings import Network


class ExemptAddresses:
    """The networks of RATE_LIMIT_EXEMPT."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._covers = lru_cache(maxsize=4096)(self._judge)

    def covers(self, address: str | None) -> bool:
        """Whether the address is exempt; an unknown one is not."""
        return address is not None and self._covers(address)

    def _judge(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(
            parsed.version == network.version and parsed in network for network in self._networks
        )
