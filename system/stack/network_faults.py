"""Cuts a part off from one dependency, in containers: takes it off the network that leads there.

Unlike a stopped dependency, which refuses, a cut one is silent: packets go nowhere. Everything else
the part talks to stays as it was, since each dependency lies in a network of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from system.stack import docker_engine as engine
from system.stack.container_acts import containers_of, endpoint_of, project_of
from system.stack.errors import StackError, UnknownPart
from system.stack.parts import PROGRAMS, SERVICES
from system.stack.state import StateFolder

# Part and dependency, and the network that leads from one to the other and nowhere else.
WAYS = {
    **{(part, "rabbitmq"): "broker" for part in PROGRAMS},
    **{(part, "redis"): "cache" for part in PROGRAMS},
    **{(part, f"postgres-{part}"): f"data-{part}" for part in SERVICES},
}


def network_of(part: str, dependency: str) -> str:
    """The network that leads a part to a dependency, and to nothing else.

    Raises:
        UnknownPart: the part has no such dependency.
    """
    if found := WAYS.get((part, dependency)):
        return found
    raise UnknownPart(
        f"{part} cannot be cut off from {dependency}; expected one of {', '.join(PROGRAMS)}, and "
        "rabbitmq, redis or the service's own postgres-<service>"
    )


def cut(state: StateFolder, part: str, dependency: str) -> None:
    """Cut a part off from a dependency; nothing happens when it is cut off already.

    Raises:
        UnknownPart: the part has no such dependency.
        StackNotThere: the stack was not started.
    """
    network = f"{project_of(state)}_{network_of(part, dependency)}"
    state.read()
    with state.held(alone=False), state.part_held(part):
        for container in containers_of(state, part):
            seen = engine.inspect(container)["NetworkSettings"]["Networks"].get(network)
            if seen is None:
                continue
            endpoint = endpoint_of(seen, container, with_address=False)
            _note(state, container, network).write_text(json.dumps(endpoint), encoding="utf-8")
            engine.disconnect(network, container)


def heal(state: StateFolder, part: str, dependency: str) -> None:
    """Put a part back to where its dependency is; nothing happens when it was not cut off.

    Raises:
        UnknownPart: the part has no such dependency.
        StackError: it was cut off by somebody else, so it is not known how it was called.
    """
    network = f"{project_of(state)}_{network_of(part, dependency)}"
    state.read()
    with state.held(alone=False), state.part_held(part):
        for container in containers_of(state, part):
            if network in engine.inspect(container)["NetworkSettings"]["Networks"]:
                continue
            note = _note(state, container, network)
            if not note.exists():
                raise StackError(f"{part} is not in {network}, and not since `fault cut`")
            engine.join(network, container, json.loads(note.read_text(encoding="utf-8")))
            note.unlink()


def _note(state: StateFolder, container: str, network: str) -> Path:
    return state.path / "run" / f"cut-{network}-{container[:12]}.json"
