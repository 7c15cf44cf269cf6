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


def test_r0_6_standard_ports_are_the_contracts() -> None:
    """And free ones for Erlang, of which the contract says nothing."""
    chosen = ports.standard(usable=lambda _: True)
    erlang = {name: chosen.pop(name) for name in ports.ERLANG}

    assert chosen == {
        "edge-http": 80,
        "edge-https": 443,
        "gateway": 3000,
        "auth": 3001,
        "payments": 3002,
        "admin": 3003,
        "profile": 3004,
        "postgres-auth": 5432,
        "postgres-payments": 5433,
        "postgres-admin": 5434,
        "postgres-profile": 5435,
        "postgres-legacy": 5436,
        "redis": 6379,
        "rabbitmq": 5672,
        "rabbitmq-management": 15672,
        "rabbitmq-metrics": 15692,
    }
    assert all(port >= ports.FIRST for port in erlang.values())


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
