"""The relay's configuration (nginx checks it when the image is built) and its local routes."""

from __future__ import annotations

import ipaddress
import struct

from system.images import relay


def test_clients_keep_the_address_they_name() -> None:
    """Each port that takes a PROXY line connects on from that address; no other port does."""
    text = relay.configuration(load_module=False)
    servers = text.split("server {")[1:]

    for block in servers:
        assert ("proxy_bind $proxy_protocol_addr;" in block) == ("proxy_protocol backlog" in block)
    spoken = [block for block in servers if "proxy_bind" in block]
    assert len(spoken) == len(relay.AS_CLIENT) == 3
    assert len(servers) == 3 + len(relay.PLAIN)


def test_the_route_is_local_and_of_the_whole_network() -> None:
    """`ip route add local 172.30.3.0/24 dev lo`, as rtnetlink writes it."""
    message = relay.route_message(ipaddress.IPv4Network("172.30.3.0/24"), 1, 7)

    length, kind, _, number, _ = struct.unpack_from("=IHHII", message)
    assert (length, kind, number) == (len(message), 24, 7)
    family, bits, _, _, table, _, scope, route, _ = struct.unpack_from("=BBBBBBBBI", message, 16)
    assert (family, bits, table, scope, route) == (2, 24, 255, 254, 2)
    assert bytes([172, 30, 3, 0]) in message
