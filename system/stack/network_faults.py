"""Disturbs the way between a part and one dependency, in containers: cut, slow, lose, heal.

Unlike a stopped dependency, which refuses, a cut one is silent: packets go nowhere. Everything else
the part talks to, and everybody else who talks to the dependency, stays as it was.

Rules of the packet filter in the part's own network do it (`disturbed_way`), put there by a helper
container that shares this network and has the right NET_ADMIN, which no container of the platform
has. They end with the part's container at the latest. The helper is also the note that something
may be in force: it is there before the first rule, and goes after the last.
"""

from __future__ import annotations

import contextlib
import inspect
import time
import uuid

from system.stack import disturbed_way
from system.stack import docker_engine as engine
from system.stack.acts import together
from system.stack.container_acts import (
    PROJECT_LABEL,
    PartFailed,
    containers_of,
    members_of,
    project_of,
    tail,
)
from system.stack.errors import StackError, UnknownPart
from system.stack.parts import PROGRAMS, SERVICES, database_of, part_of
from system.stack.state import StateFolder

ACTS = ("cut", "slow", "lose", "heal")
# Part and dependency, and the port there; no part talks to two dependencies at the same port.
WAYS = {
    **{(part, "rabbitmq"): 5672 for part in PROGRAMS},
    **{(part, "redis"): 6379 for part in PROGRAMS},
    **{(part, database_of(part)): 5432 for part in SERVICES},
}
IMAGE = "FAULTS_IMAGE"  # what helpers are made of; a key of the stack's document
WAY_LABEL, CONTAINER_LABEL = "seatrial.disturbs-way-to", "seatrial.disturbs"
_SECONDS = 60.0
_POLL_SECONDS = 0.02


def port_of(part: str, dependency: str) -> int:
    """The port at which a part talks to a dependency.

    Raises:
        UnknownPart: the part has no such dependency.
    """
    if found := WAYS.get((part_of(part), dependency)):
        return found
    raise UnknownPart(
        f"{part} does not talk to {dependency}; expected one of {', '.join(PROGRAMS)}, and "
        "rabbitmq, redis or the service's own postgres-<service>"
    )


def disturb(
    state: StateFolder, part: str, dependency: str, act: str, amount: float | None = None
) -> None:
    """Cut, slow, lose or heal; replaces what was in force, and returns when it is.

    Args:
        part: the part's name, which means all its members, or a member's.
        amount: milliseconds each way (slow), percent of the packets each way (lose).

    Raises:
        UnknownPart: the part has no such dependency.
        StackNotThere: the stack was not started.
        PartFailed: the part does not run, or the rules could not be made.
        StackError: the stack is of a time before this.
    """
    port = port_of(part, dependency)
    image = state.read().get(IMAGE)
    if image is None:
        raise StackError(
            f"the stack was started before there were faults: its document has no {IMAGE}; `down` "
            "and `up` start it anew"
        )
    words = [str(port), act] + ([] if amount is None else [f"{amount:g}"])

    def on(member: str) -> None:
        for container in containers_of(state, member):
            labels = {
                PROJECT_LABEL: project_of(state),
                CONTAINER_LABEL: container,
                WAY_LABEL: dependency,
            }
            _disturb(member, container, labels, image, words)

    members = members_of(state, part)
    with state.held(alone=False), contextlib.ExitStack() as held:
        for member in members:
            held.enter_context(state.part_held(member))
        together(members, on)


def _disturb(
    member: str, container: str, labels: dict[str, str], image: str, words: list[str]
) -> None:
    healing = words[1] == "heal"
    before = [str(helper["Id"]) for helper in engine.containers(labels)]
    runs = engine.inspect(container)["State"]["Running"]
    if not runs and not healing:
        raise PartFailed(member, "does not run, so nothing can be disturbed", "(none)")
    if healing and not (before and runs):
        _remove(before)
        return
    helper = _create(image, container, labels, words)
    _remove(before)  # whatever waits in a queue of theirs is sent again
    engine.act(helper, "start")
    _wait_until_in_force(member, helper)
    if healing:
        _remove([helper])


def _create(image: str, container: str, labels: dict[str, str], words: list[str]) -> str:
    """A helper in the network of a container."""
    return engine.create(
        f"{labels[PROJECT_LABEL]}-disturbs-{container[:8]}-{uuid.uuid4().hex[:8]}",
        {
            "Image": image,
            "Entrypoint": ["python3"],
            "Cmd": ["-I", "-c", inspect.getsource(disturbed_way), *words],
            "Labels": {**labels, "org.testcontainers": "true"},
            "HostConfig": {
                "NetworkMode": f"container:{container}",
                "CapDrop": ["ALL"],
                "CapAdd": ["NET_ADMIN"],
                "SecurityOpt": ["no-new-privileges:true"],
                "ReadonlyRootfs": True,
                "Tmpfs": {"/run": "size=1m"},
                "Init": True,
            },
        },
    )


def _remove(helpers: list[str]) -> None:
    for helper in helpers:
        engine.remove(helper)


def _wait_until_in_force(part: str, helper: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        said = tail(helper)
        if said == "in force":
            return
        facts = engine.inspect(helper)["State"]
        if facts["Status"] in ("exited", "dead") and (seen := tail(helper)) != "in force":
            raise StackError(f"{part} cannot be disturbed ({facts['ExitCode']}):\n{seen}")
        if time.monotonic() > deadline:
            raise StackError(f"{part} is not disturbed after {_SECONDS:.0f} s:\n{said}")
        time.sleep(_POLL_SECONDS)
