"""Traffic with one port, disturbed: in a network of its own, with a real packet filter."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from system.stack import disturbed_way
from system.stack.state import PROJECT

# Both ends are in one network here: a packet to the port is disturbed on its way out, one from it
# on its way in, as where the port is another machine's.
_PREPARED = """
import json, socket, subprocess, sys, threading, time
from system.stack import disturbed_way

PORT, OTHER = 5432, 5433

def serve(port):
    def echo(met):
        while piece := met.recv(65536):
            met.sendall(piece)
    server = socket.create_server(("127.0.0.1", port))
    def accept():
        while True:
            threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()

def connect(port, seconds=0.7):
    return socket.create_connection(("127.0.0.1", port), seconds)

def seconds(near):
    began = time.monotonic()
    try:
        near.sendall(b"x")
        near.recv(1)
    except TimeoutError:
        return None
    return time.monotonic() - began

def act(*words):
    helper = subprocess.Popen([sys.executable, "-I", disturbed_way.__file__, str(PORT), *words],
                              stdout=subprocess.PIPE, text=True)
    assert helper.stdout.readline() == "in force\\n"
    if words[0] != "slow":
        assert helper.wait() == 0
    return helper

def rules():
    return subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
serve(PORT), serve(OTHER)
old, other = connect(PORT), connect(OTHER)
untouched = rules()
seen = {}
"""


def _in_own_network(script: str) -> dict[str, Any]:
    """What a script has seen in a network that only it has."""
    answer = subprocess.run(
        [
            *("unshare", "--map-root-user", "--net", sys.executable, "-c"),
            _PREPARED + textwrap.dedent(script) + "\nprint(json.dumps(seen))",
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    seen: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return seen


@pytest.mark.engine
def test_a_cut_is_silent_and_heals() -> None:
    """Old and new connections meet silence, other ports nothing; the old one lives on after."""
    seen = _in_own_network("""
        act("cut"), act("cut")
        seen["old"] = seconds(old)
        try:
            connect(PORT)
        except TimeoutError:
            seen["new"] = "silence"
        seen["other"] = seconds(other)
        act("heal"), act("heal")
        old.settimeout(10)
        seen["healed"] = seconds(old)
        seen["rules left"] = rules() != untouched
    """)

    assert (seen["old"], seen["new"]) == (None, "silence")
    assert seen["other"] is not None
    assert seen["healed"] is not None
    assert not seen["rules left"]


@pytest.mark.engine
def test_a_slow_way_takes_longer_both_ways() -> None:
    """An old connection, and a new one's first packet, are late by twice the time; others are not.

    The end of who delays ends the delay, so a killed helper cuts nobody off.
    """
    seen = _in_own_network("""
        old.settimeout(30), other.settimeout(30)
        helper = act("slow", "150")
        seen["old"] = [seconds(old) for _ in range(3)]
        began = time.monotonic()
        connect(PORT, 30)
        seen["new"] = time.monotonic() - began
        seen["other"] = [seconds(other) for _ in range(3)]
        helper.kill(), helper.wait()
        seen["killed"] = [seconds(old) for _ in range(3)]
        act("heal")
        seen["rules left"] = rules() != untouched
    """)

    assert all(slow >= 0.3 for slow in [*seen["old"], seen["new"]])
    assert min(seen["old"]) < 0.6
    assert min(seen["other"]) < 0.3
    assert min(seen["killed"]) < 0.3
    assert not seen["rules left"]


@pytest.mark.engine
def test_some_packets_get_lost() -> None:
    """Of 200 packets about as many as was asked for are sent again; none is lost for good."""
    seen = _in_own_network("""
        act("lose", "50"), act("lose", "10")
        old.settimeout(30)
        seen["answered"] = sum(seconds(old) is not None for _ in range(40))
        dropped = subprocess.run(["iptables", "-nvxL", "disturbed-5432"], capture_output=True,
                                 text=True, check=True).stdout
        ways = subprocess.run(["iptables", "-nvxL"], capture_output=True, text=True).stdout
        seen["lost"] = sum(int(line.split()[0]) for line in dropped.splitlines() if "DROP" in line)
        seen["passed"] = sum(int(line.split()[0]) for line in ways.splitlines()
                             if line.split()[2:3] == ["disturbed-5432"])
        act("cut")
        seen["cut"] = seconds(connect(OTHER)) is not None
        act("heal")
        seen["rules left"] = rules() != untouched
    """)

    assert seen["answered"] == 40
    assert 0.01 < seen["lost"] / seen["passed"] < 0.3, seen  # not 0, not the first share
    assert not seen["rules left"]


@pytest.mark.engine
def test_wrong_words_are_told() -> None:
    """Before anything is changed."""
    seen = _in_own_network("""
        told = subprocess.run([sys.executable, disturbed_way.__file__, "5432", "sever"],
                              capture_output=True, text=True)
        seen["told"] = [told.returncode, told.stderr.strip()]
        seen["rules left"] = rules() != untouched
    """)

    assert seen["told"] == [1, "seen 'sever', expected cut, lose, slow or heal"]
    assert not seen["rules left"]


def test_packets_are_read_from_the_kernels_messages() -> None:
    """Each message's packet, whatever stands before its number; other messages are passed over."""

    def attribute(name: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)

    def message(kind: int, *attributes: bytes) -> bytes:
        body = bytes(4) + b"".join(attributes)
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body

    packet = 3 << 8
    data = (
        message(packet, attribute(1, struct.pack(">IHB", 7, 0x800, 3)))
        + message(2, struct.pack("=i", 0))
        + message(packet, attribute(3, b"12345"), attribute(1, struct.pack(">IHB", 8, 0x800, 3)))
    )

    assert list(disturbed_way.packets(data)) == [7, 8]
    assert list(disturbed_way.packets(b"")) == []
