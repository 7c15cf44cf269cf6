"""Probes that open sockets themselves: their address arrives, bound here or taken by a relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness import addresses
from harness.tests.relay import relay
from loadtests.tests.stand_in import stand_in
from loadtests.tests.test_swarm import gateway
from suites.probes import raw, websocket

ADDRESS = "127.0.3.9"
WAYS = pytest.mark.parametrize("relayed", [False, True], ids=["bound here", "by relay"])


@pytest.fixture(autouse=True)
def _without_relays_afterwards() -> Iterator[None]:
    yield
    addresses.use({})


@WAYS
def test_a_raw_request_comes_from_its_address(tmp_path: Path, relayed: bool) -> None:
    """The path as written, TLS with the origin, the address that was asked for."""
    with stand_in(tls_folder=tmp_path) as server:
        port = urlsplit(server.origin).port or 0
        with relay(("127.0.0.1", port)) as (place, _):
            if relayed:
                addresses.use({f"localhost:{port}": place})
            seen = raw.get(server.origin, "/a/../%2e", ca=server.ca, address=ADDRESS)
        assert [(each.peer, each.path) for each in server.seen] == [(ADDRESS, "/a/../%2e")]
        assert server.seen[0].headers["host"] == f"localhost:{port}"
    assert seen["status"] == 200, seen


@WAYS
def test_a_handshake_comes_from_its_address(tmp_path: Path, relayed: bool) -> None:
    """Accepted and welcomed over TLS, from the address that was asked for."""
    with gateway(tls_folder=tmp_path) as server:
        port = urlsplit(server.url).port or 0
        with relay(("127.0.0.1", port)) as (place, lines):
            if relayed:
                addresses.use({f"localhost:{port}": place})
            seen = websocket.handshake(server.url, "somebody", ca=server.ca, address=ADDRESS)
        assert server.peers == {ADDRESS}
    assert seen["status"] == 101, seen
    assert json.dumps(seen["json"]).find("somebody") > 0
    assert len(lines) == relayed
