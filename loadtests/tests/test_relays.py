"""Load whose source addresses a relay takes: engine, swarm and desk, over TLS with the origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness import addresses
from harness.probe import exchange, http_client
from harness.tests.relay import relay
from loadtests.engine.measure import measure
from loadtests.swarm.control import Swarm
from loadtests.tests.stand_in import stand_in
from loadtests.tests.test_engine_generator import plan_for
from loadtests.tests.test_swarm import gateway, swarm_plan

ADDRESSES = ("127.0.2.1", "127.0.2.2")


@pytest.fixture(autouse=True)
def _without_relays_afterwards() -> Iterator[None]:
    yield
    addresses.use({})


def _place(url: str) -> tuple[str, tuple[str, int]]:
    port = urlsplit(url).port
    assert port is not None
    return f"localhost:{port}", ("127.0.0.1", port)


def test_the_engine_goes_through_the_relay(tmp_path: Path) -> None:
    """The process of its own is seen with the plan's addresses, each introduced by a line."""
    with stand_in(tls_folder=tmp_path) as server:
        name, place = _place(server.origin)
        with relay(place) as (through, lines):
            addresses.use({name: through})
            measurement = measure(plan_for(server, addresses=ADDRESSES), tmp_path, "engine")
        assert {seen.peer for seen in server.seen} == set(ADDRESSES)
        assert {seen.headers["host"] for seen in server.seen} == {name}
    assert measurement.ok.all()
    assert len(lines) == measurement.summary.generator.connections


def test_the_swarm_goes_through_the_relay(tmp_path: Path) -> None:
    """All sockets are welcomed, and come from the plan's addresses."""
    with gateway(tls_folder=tmp_path) as server:
        name, place = _place(server.url)
        with relay(place) as (through, lines):
            addresses.use({name: through})
            plan = swarm_plan(server, *["user"] * 10, addresses=ADDRESSES)
            with Swarm(plan, tmp_path, "swarm") as swarm:
                assert swarm.connect()["welcomed"] == 10
                swarm.finish()
        assert server.peers == set(ADDRESSES)
    assert len(lines) == 10


def test_tls_is_spoken_with_the_place_itself(tmp_path: Path) -> None:
    """Through the relay the certificate is checked against the origin's name."""
    with stand_in(tls_folder=tmp_path) as server:
        name, place = _place(server.origin)
        other = name.replace("localhost", "other.example")
        with relay(place) as (through, _):
            addresses.use({name: through, other: through})
            seen = {}
            for origin in (name, other):
                with http_client(f"https://{origin}", ca=server.ca, address=ADDRESSES[0]) as client:
                    seen[origin] = exchange(client, "GET", "/")
        assert [each.peer for each in server.seen] == [ADDRESSES[0]]
    assert seen[name].status == 200
    assert "hostname mismatch" in seen[other]["error"].lower()
