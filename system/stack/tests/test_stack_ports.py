"""Ports are free, distinct, and refused with their names when they are taken."""

from __future__ import annotations

import socket

import pytest

from system.stack import ports
from system.stack.errors import PortsTaken


def test_free_ports_are_distinct_and_outside_the_range_of_outgoing_connections() -> None:
    """A part that is restarted finds its port again, since no outgoing connection takes it."""
    chosen = ports.free(seed=7)

    assert set(chosen) == set(ports.NAMES)
    assert len(set(chosen.values())) == len(chosen)
    assert all(ports.FIRST <= port < ports.LAST for port in chosen.values())


def test_a_taken_port_is_passed_over() -> None:
    """A port that somebody listens on is not handed out."""
    first = ports.free(["one"], usable=lambda _: True, seed=7)["one"]

    chosen = ports.free(["one"], usable=lambda port: port != first, seed=7)

    assert chosen["one"] != first


def test_free_ports_run_out_with_an_error() -> None:
    """No free port is an error that says between which bounds one was looked for."""
    with pytest.raises(PortsTaken, match=f"between {ports.FIRST} and {ports.LAST} for one"):
        ports.free(["one"], usable=lambda _: False)


def test_standard_ports_are_the_contracts() -> None:
    """R0.6's ports, and free ones for Erlang."""
    chosen = ports.standard(usable=lambda _: True)

    assert (chosen["edge-https"], chosen["gateway"], chosen["postgres-profile"]) == (
        443,
        3000,
        5435,
    )
    assert chosen["epmd"] >= ports.FIRST


def test_all_taken_standard_ports_are_named_at_once() -> None:
    """The message lists each port in use with its part."""
    with pytest.raises(PortsTaken, match=r"443 \(edge-https\), 3000 \(gateway\)"):
        ports.standard(usable=lambda port: port not in (443, 3000))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_with_a_listener_is_not_available(address: str) -> None:
    """Either loopback address counts."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()

        assert not ports.available(listener.getsockname()[1])
