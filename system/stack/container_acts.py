"""Acts on one part that runs in a container: stop, start, kill, pause, resume, restart.

A stopped process leaves its machine behind, whose name and address go on and refuse connections. A
stopped container takes both with it: its name is unknown, its address silent for seconds. Nobody
means that by *stop*, so a place-holder takes name and address until the part is back. (A machine
that vanishes is what `fault cut` plays.)
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

from system.stack import docker_engine as engine
from system.stack import lent_place, readiness
from system.stack.acts import together
from system.stack.errors import StackError, UnknownPart
from system.stack.launch import Readiness
from system.stack.parts import (
    DATABASES,
    LEGACY,
    OPTIONAL,
    PARTS,
    member_names,
    number_of,
    part_of,
    port_name,
    replicas_of,
)
from system.stack.state import StateFolder

PROJECT_LABEL = "com.docker.compose.project"  # on everything that compose makes
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
STAND_IN_LABEL = "seatrial.in-place-of"
_GRACE = {"rabbitmq": 30}  # seconds to end in good order
_USUAL_GRACE = 12  # R0.11 gives a process 10 s
_START_SECONDS = 180.0  # a busy machine is slow, not broken; a part that ends is seen at once
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.05
_LOG_BYTES = 4000
_REFUSING = ("sleep", "infinity")  # nobody listens, so whoever connects is refused


class PartFailed(StackError):
    """A part ended or did not get ready; shows the end of its log."""

    def __init__(self, part: str, seen: str, log: str) -> None:
        self.part = part
        super().__init__(f"{part}: {seen}\n--- end of its log\n{log}\n---")


def project_of(state: StateFolder) -> str:
    """The compose project's name."""
    return state.path.name


def members_of(state: StateFolder, name: str) -> list[str]:
    """The members that a name stands for: all of a part, or one.

    Raises:
        UnknownPart: neither a part nor a member of this stack has that name.
        StackNotThere: the stack was not started.
    """
    part = part_of(name)
    if part not in (*PARTS, *OPTIONAL):
        raise UnknownPart(f"there is no part {name!r}; the parts are {', '.join(PARTS)}")
    members = member_names(part, replicas_of(part, state.read()["ports"]))
    if name not in (part, *members):
        raise UnknownPart(f"there is no {name!r}; {part} runs as {', '.join(members)}")
    return [member for member in members if name in (member, part)]


def containers_of(state: StateFolder, name: str) -> list[str]:
    """Ids of the containers of a part or of one member, running or not.

    Raises:
        PartFailed: there are none.
    """
    part = part_of(name)
    labels = {PROJECT_LABEL: project_of(state), SERVICE_LABEL: part}
    if name != part:
        labels[NUMBER_LABEL] = str(number_of(name))
    found = engine.containers(labels)
    if not found:
        raise PartFailed(name, f"project {project_of(state)} has no such container", "(none)")
    return [str(container["Id"]) for container in found]


def control(state: StateFolder, part: str, action: str) -> None:
    """Do one act on all members of a part at once, or on one member; returns when it is done.

    Args:
        part: the part's name, or a member's.
        action: stop, start, restart, kill, pause or resume.

    Raises:
        UnknownPart: no part has that name.
        StackNotThere: the stack was not started.
        PartFailed: the part did not get ready again.
        StackBusy: another command works on the stack or the part.
    """
    members = members_of(state, part)  # before the lock, which would make the folder
    with state.held(alone=False), contextlib.ExitStack() as held:
        for member in members:
            held.enter_context(state.part_held(member))
        together(members, lambda member: ACTIONS[action](state, member))


def stop(state: StateFolder, part: str) -> None:
    """End a part in good order."""
    _leave(state, part, lambda container: _stop(part, container))


def kill(state: StateFolder, part: str) -> None:
    """End a part without warning."""
    _leave(state, part, lambda container: engine.act(container, "kill"))


def start(state: StateFolder, part: str) -> None:
    """Start a part if it does not run, and wait until it serves."""
    clear_place(state, part)
    for container in containers_of(state, part):
        engine.act(container, "start")
    wait_until_ready(state, part, strict=False)
    how = readiness_of(state, part)
    if how.kind in ("http", "edge"):
        # Usually its dependencies are there and it finds them at once; if not, it serves anyway.
        deadline = time.monotonic() + _SETTLE_SECONDS
        while readiness.problem(how, strict=True) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def lend(state: StateFolder, part: str) -> None:
    """End a part and lead its place to whoever stands in for it on this machine, until `start`.

    Raises:
        UnknownPart: the part has no place to lend.
    """
    places = state.read().get("stand_ins", {})
    if part_of(part) not in places:
        raise UnknownPart(f"{part} cannot be lent; only {', '.join(places) or 'none'}")
    inner, host, port = places[part_of(part)]
    command = ["python3", "-c", inspect.getsource(lent_place), str(inner), host, str(port)]
    _leave(state, part, lambda container: _stop(part, container), command)
    _wait_until_listening(state, part)


def restart(state: StateFolder, part: str) -> None:
    """End a part in good order and start it again."""
    for container in containers_of(state, part):
        _stop(part, container)
    start(state, part)


def pause(state: StateFolder, part: str) -> None:
    """Freeze a part: its connections stay, nothing answers; frozen when this returns."""
    for container in containers_of(state, part):
        engine.act(container, "pause")


def resume(state: StateFolder, part: str) -> None:
    """Let a frozen part go on."""
    for container in containers_of(state, part):
        engine.act(container, "unpause")


ACTIONS: dict[str, Callable[[StateFolder, str], None]] = {
    "stop": stop,
    "start": start,
    "restart": restart,
    "kill": kill,
    "pause": pause,
    "resume": resume,
    "lend": lend,
}


def readiness_of(state: StateFolder, part: str) -> Readiness:
    """How to see that a part answers, by the ports of this machine that lead to it."""
    ports = state.read()["ports"]
    if part == "edge":
        return Readiness("edge", ports["edge-https"])
    if part == "rabbitmq":
        return Readiness("rabbitmq", ports[part], ports["rabbitmq-management"])
    kind = "postgres" if part in (*DATABASES, LEGACY) else "redis" if part == "redis" else "http"
    return Readiness(kind, ports[port_name(part)])


def wait_until_ready(
    state: StateFolder, part: str, *, strict: bool, seconds: float = _START_SECONDS
) -> None:
    """Wait until a part answers.

    Args:
        strict: services must have all their dependencies; otherwise it is enough that they serve.

    Raises:
        PartFailed: it ended, or did not answer within ``seconds``.
    """
    how = readiness_of(state, part)
    deadline = time.monotonic() + seconds
    while seen := readiness.problem(how, strict=strict):
        for container in containers_of(state, part):
            facts = engine.inspect(container)["State"]
            if facts["Status"] in ("exited", "dead"):
                text = f"ended by itself with code {facts['ExitCode']} while it was waited for"
                raise PartFailed(part, text, tail(container))
        if time.monotonic() > deadline:
            log = tail(containers_of(state, part)[0])
            raise PartFailed(part, f"not ready after {seconds:.0f} s ({seen})", log)
        time.sleep(_POLL_SECONDS)


def tail(container: str, size: int = _LOG_BYTES) -> str:
    """The end of what a container has written."""
    return engine.logs(container)[-size:].decode("utf-8", "replace").strip() or "(empty)"


def _stop(part: str, container: str) -> None:
    grace = _GRACE.get(part, _USUAL_GRACE)
    engine.act(container, "stop", t=grace, seconds=grace + 60.0)


def _leave(
    state: StateFolder,
    part: str,
    end: Callable[[str], None],
    command: Sequence[str] = _REFUSING,
) -> None:
    """End a part's containers, and have their place held by one that runs a command."""
    for container in containers_of(state, part):
        facts = engine.inspect(container)
        if facts["State"]["Paused"]:
            engine.act(container, "unpause")  # a frozen process cannot take a signal
        holder = _place_holder(state, part, facts, command) if facts["State"]["Running"] else None
        end(container)
        if holder is not None:
            engine.act(holder, "start")


def _place_holder(
    state: StateFolder,
    part: str,
    facts: dict[str, Any],
    command: Sequence[str],
    *,
    named: bool = True,
) -> str:
    """A container of the same image that will run a command at the same addresses.

    Args:
        named: also under the same names.
    """
    ranged = {
        network["Name"]
        for network in engine.networks({PROJECT_LABEL: project_of(state)})
        if any(config.get("IPRange") for config in network["IPAM"]["Config"] or [])
    }
    endpoints = {
        name: endpoint_of(seen, facts["Id"], with_address=name in ranged)
        for name, seen in facts["NetworkSettings"]["Networks"].items()
    }
    if not named:
        endpoints = {name: {**seen, "Aliases": []} for name, seen in endpoints.items()}
    first = next(iter(endpoints), "none")
    holder = engine.create(
        f"{project_of(state)}-in-place-of-{part}-{facts['Id'][:8]}",
        {
            "Image": facts["Image"],
            "Entrypoint": [command[0]],
            "Cmd": list(command[1:]),
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {
                PROJECT_LABEL: project_of(state),
                STAND_IN_LABEL: part,
                "org.testcontainers": "true",
            },
            "HostConfig": {"NetworkMode": first, "Init": True},
            "NetworkingConfig": {"EndpointsConfig": {first: endpoints[first]} if endpoints else {}},
        },
    )
    for name in list(endpoints)[1:]:
        engine.join(name, holder, endpoints[name])
    return holder


def endpoint_of(seen: dict[str, Any], container: str, *, with_address: bool) -> dict[str, Any]:
    """What a container must say to be found where this one is found.

    Args:
        seen: the network as an inspection of the container shows it.
        with_address: also ask for the same address, which only networks with a configured range
            allow. The others give the lowest free address, mostly the one just left.
    """
    endpoint: dict[str, Any] = {
        "Aliases": [name for name in seen.get("Aliases") or [] if not container.startswith(name)]
    }
    if with_address:
        endpoint["IPAMConfig"] = {"IPv4Address": seen["IPAddress"]}
    return endpoint


def _wait_until_listening(state: StateFolder, part: str) -> None:
    """Wait until the place-holder of a part says that it listens."""
    labels = {PROJECT_LABEL: project_of(state), STAND_IN_LABEL: part}
    deadline = time.monotonic() + 30.0
    while not all(engine.logs(str(holder["Id"])) for holder in engine.containers(labels)):
        if time.monotonic() > deadline:
            raise PartFailed(part, "nobody listens in its place after 30 s", "(none)")
        time.sleep(_POLL_SECONDS)


def remove(state: StateFolder, member: str, *, stay: bool = False) -> None:
    """End a member in good order, for good.

    Args:
        stay: its address refuses, without a name, until `clear_place`; for those who know it.
    """
    for container in containers_of(state, member):
        facts = engine.inspect(container)
        holder = ""
        if stay and facts["State"]["Running"]:
            holder = _place_holder(state, member, facts, _REFUSING, named=False)
        _stop(member, container)
        if holder:
            engine.act(holder, "start")
        engine.remove(container)


def clear_place(state: StateFolder, part: str) -> None:
    """Remove whoever holds the place of a part."""
    labels = {PROJECT_LABEL: project_of(state), STAND_IN_LABEL: part}
    for holder in engine.containers(labels):
        engine.remove(str(holder["Id"]))
