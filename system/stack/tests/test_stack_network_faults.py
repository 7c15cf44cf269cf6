"""Network faults between two real containers, made by the image that makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from system.images.build import Images
from system.stack import container_acts, containers, network_faults
from system.stack import docker_engine as engine
from system.stack.state import StateFolder

pytestmark = pytest.mark.engine

_SERVER = """
import socket, threading
def echo(met):
    while piece := met.recv(65536):
        met.sendall(piece)
with socket.create_server(("0.0.0.0", 6379)) as server:
    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""
# A line for each look: seconds of a round trip on a kept connection and of a new connection.
_CLIENT = """
import socket, time
def timed(act):
    began = time.monotonic()
    try:
        act()
    except OSError:
        return "silence"
    return f"{time.monotonic() - began:.3f}"
while True:
    try:
        kept = socket.create_connection(("redis", 6379), 1)
        break
    except OSError:
        time.sleep(0.1)
def ask():
    kept.sendall(b"x")
    kept.recv(65536)
def connect():
    socket.create_connection(("redis", 6379), 1).close()
while True:
    print(timed(ask), timed(connect), flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def state() -> Iterator[StateFolder]:
    """Two containers in a network: redis answers, payments asks all the time."""
    folder = StateFolder("test-of-network-faults")
    folder.create()
    project = container_acts.project_of(folder)
    images = Images(say=lambda line: None).build()
    document = {"name": folder.name, "kind": containers.KIND, "project": str(folder.project)}
    folder.write(
        document | {"phase": "up", "ports": {}, network_faults.IMAGE: images["FAULTS_IMAGE"]}
    )
    labels = {container_acts.PROJECT_LABEL: project}
    try:
        engine.call(
            "POST", "/networks/create", {"Name": project, "Labels": labels, "Internal": True}
        )
        for part, text in (("redis", _SERVER), ("payments", _CLIENT)):
            made = engine.create(
                f"{project}-{part}",
                {
                    "Image": images["APPLICATION_IMAGE"],
                    "Entrypoint": ["python", "-c", text],
                    "Healthcheck": {"Test": ["NONE"]},
                    "Labels": labels | {container_acts.SERVICE_LABEL: part},
                    "HostConfig": {"NetworkMode": project, "Init": True, "CapDrop": ["ALL"]},
                    "NetworkingConfig": {"EndpointsConfig": {project: {"Aliases": [part]}}},
                },
            )
            engine.act(made, "start")
        yield folder
    finally:
        containers.remove(project)
        folder.remove()


def _wait_for(state: StateFolder, wanted: Callable[[list[str]], bool]) -> None:
    """Wait until what payments sees is as wanted."""
    (client,) = container_acts.containers_of(state, "payments")
    deadline = time.monotonic() + 30
    while True:
        lines = engine.logs(client).decode().splitlines()
        if lines and wanted(lines[-1].split()):
            return
        assert time.monotonic() < deadline, lines[-5:]
        time.sleep(0.1)


def _helpers(state: StateFolder) -> list[dict[str, Any]]:
    labels = {
        container_acts.PROJECT_LABEL: container_acts.project_of(state),
        network_faults.WAY_LABEL: "redis",
    }
    return engine.containers(labels)


def test_each_fault_is_felt_by_kept_and_new_connections(state: StateFolder) -> None:
    """One after the other, each instead of the one before; in the end nothing is left."""

    def quick(seen: list[str]) -> bool:
        return "silence" not in seen and all(float(seconds) < 0.2 for seconds in seen)

    _wait_for(state, quick)
    network_faults.disturb(state, "payments", "redis", "slow", 100)
    _wait_for(
        state, lambda seen: "silence" not in seen and all(0.2 <= float(s) < 0.9 for s in seen)
    )
    network_faults.disturb(state, "payments", "redis", "cut")
    _wait_for(state, lambda seen: seen == ["silence", "silence"])
    network_faults.disturb(state, "payments", "redis", "lose", 1)
    _wait_for(state, quick)
    assert len(_helpers(state)) == 1
    network_faults.disturb(state, "payments", "redis", "heal")
    _wait_for(state, quick)
    assert _helpers(state) == []


def test_what_a_killed_command_left_is_healed(state: StateFolder) -> None:
    """Rules without the one who made them, too."""
    network_faults.disturb(state, "payments", "redis", "cut")
    (helper,) = _helpers(state)
    _wait_for(state, lambda seen: seen == ["silence", "silence"])
    # Killed right after its helper was there, and again while it healed.
    network_faults._create(
        state.read()[network_faults.IMAGE],
        container_acts.containers_of(state, "payments")[0],
        dict(helper["Labels"]),
        ["6379", "heal"],
    )
    engine.remove(str(helper["Id"]))

    network_faults.disturb(state, "payments", "redis", "heal")

    _wait_for(state, lambda seen: "silence" not in seen)
    assert _helpers(state) == []
