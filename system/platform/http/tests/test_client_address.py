"""R1.40: whose address a request has."""

from __future__ import annotations

import pytest

from system.platform.http.client_address import client_address
from system.platform.http.trusted_proxies import trusted_proxies

TRUSTED = frozenset({"127.0.0.250", "127.0.0.251", "::1"})


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["1.2.3.4"], "203.0.113.7"),  # an untrusted peer is not believed
        ("127.0.0.250", [], "127.0.0.250"),
        ("127.0.0.250", ["1.2.3.4"], "1.2.3.4"),
        ("127.0.0.250", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # the client's own entry stands first
        ("127.0.0.250", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),  # repeated headers are one list
        ("127.0.0.251", ["1.2.3.4, 127.0.0.250"], "1.2.3.4"),
        ("127.0.0.251", ["127.0.0.250, ::1"], "127.0.0.250"),  # all trusted: the first
        ("127.0.0.250", [" 1.2.3.4 "], "1.2.3.4"),
        ("127.0.0.250", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:127.0.0.250", ["1.2.3.4"], "1.2.3.4"),
        ("127.0.0.250", ["2001:DB8::1"], "2001:db8::1"),
        ("127.0.0.250", ["unknown"], "127.0.0.250"),
        ("127.0.0.250", ["1.2.3.4, evil"], "127.0.0.250"),
        ("127.0.0.250", [""], "127.0.0.250"),
        (None, ["1.2.3.4"], None),
    ],
)
def test_client_address(peer: str | None, forwarded: list[str], expected: str | None) -> None:
    """The peer, or the last forwarded entry that is not trusted."""
    assert client_address(peer, forwarded, TRUSTED) == expected


def test_nobody_is_trusted_by_default() -> None:
    """R0.16: without TRUSTED_PROXIES no header moves the address."""
    assert client_address("127.0.0.1", ["1.2.3.4"], frozenset()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.244.3.9", ["1.2.3.4"], "1.2.3.4"),
        ("10.245.0.1", ["1.2.3.4"], "10.245.0.1"),  # just outside
        ("10.244.3.9", ["1.2.3.4, 10.244.0.7"], "1.2.3.4"),
        ("10.244.3.9", ["10.244.0.8, 10.244.0.7"], "10.244.0.8"),
        ("127.0.0.250", ["1.2.3.4"], "1.2.3.4"),  # an address beside the network
        ("::ffff:10.244.3.9", ["1.2.3.4"], "1.2.3.4"),
        ("2001:db8::1", ["1.2.3.4"], "2001:db8::1"),
    ],
)
def test_proxies_of_a_network(peer: str, forwarded: list[str], expected: str) -> None:
    """R1.40: where addresses are given out by an orchestrator, TRUSTED_PROXIES names networks."""
    trusted = trusted_proxies(["10.244.0.0/16", "127.0.0.250"])

    assert client_address(peer, forwarded, trusted) == expected
    assert client_address(peer, forwarded, trusted) == expected  # as remembered
