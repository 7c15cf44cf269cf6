"""The platform in containers: system/compose.yaml, brought up by testcontainers, ended by label."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from system.edge.serve import NOT_FOLLOWED
from system.stack import (
    compose,
    composing,
    container_acts,
    lifetime,
    network_faults,
    readiness,
    relayed,
    scaling,
    target_file,
)
from system.stack import docker_engine as engine
from system.stack.acts import together
from system.stack.container_acts import (
    NUMBER_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    PartFailed,
)
from system.stack.environment import UPSTREAM_TIMEOUT_MS
from system.stack.errors import NotInstalled, StackError
from system.stack.lifetime import PartState, undisturbed
from system.stack.parts import (
    LEGACY,
    OPTIONAL,
    PARTS,
    PROGRAMS,
    SERVICES,
    member_names,
    part_of,
    port_name,
    replicas_of,
    with_members,
)
from system.stack.ports import STANDARD, free
from system.stack.programs import which
from system.stack.state import StateFolder

__all__ = ["KIND", "PartFailed", "PartState", "Stack", "StackError", "sweep"]

KIND = "containers"  # in the stack's document; that of a native one says nothing
RELAY = "relay"
_READY_SECONDS = 180.0
_EDGE_SECONDS = 30.0  # it looks every half second, and waits a while for who may come back
_EDGE = ("edge-https", "edge-http")


class Stack(lifetime.Stack):
    """A reference platform in containers; used as `native.Stack` is."""

    def __init__(
        self,
        name: str = "default",
        *,
        replicas: int = 1,
        upstream_timeout_ms: int = UPSTREAM_TIMEOUT_MS,
        detached: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            name,
            replicas=replicas,
            upstream_timeout_ms=upstream_timeout_ms,
            detached=detached,
            progress=progress,
        )
        self._project = compose.Project(self.state)

    def status(self) -> list[PartState]:
        """How each part is.

        Raises:
            StackNotThere: the stack was not started.
        """
        ports = self.state.read()["ports"]
        found = self._containers()
        return [
            self._state_of(member, found.get(member)) for member in with_members(PARTS, ports)
        ] + [self._state_of(part, found[part]) for part in OPTIONAL if part in found]

    def control(self, part: str, action: str) -> None:
        """Stop, start, restart, kill, pause or resume a part or a member; see `container_acts`."""
        container_acts.control(self.state, part, action)

    def save_logs(self, folder: Path) -> None:
        """Write what every container has said so far to ``<folder>/<member>.log``."""
        folder.mkdir(parents=True, exist_ok=True)
        for member, container in self._containers().items():
            (folder / f"{member}.log").write_bytes(engine.logs(container))

    def logs(self) -> list[Path]:
        """The parts' logs as files, written anew."""
        self.save_logs(self.state.logs)
        return sorted(self.state.logs.glob("*.log"))

    def scale(self, wanted: Mapping[str, int]) -> None:
        """Change how many of each run; callers find them by name, so nobody restarts."""
        self._began = time.monotonic()
        self.state.read()  # before the lock, which would make the folder
        with self.state.held(alone=True):
            document = self.state.read()
            plan = scaling.plan(document["ports"], wanted, by_name=True)
            self._all_run(wanted)
            before = {part: replicas_of(part, document["ports"]) for part in wanted}
            members = scaling.members_after(document["ports"], wanted)
            ports = self._used_ports(document, members)
            since = time.time()
            try:
                if plan.started:
                    self._project.set_replicas(wanted)
                    grown = {part_of(member) for member in plan.started}
                    composing.up_only(self._project, grown)
                self.state.write({**document, "ports": {**document["ports"], **ports}})
                for member in plan.started:
                    container_acts.wait_until_ready(self.state, member, strict=True)
                    self._say_ready(member)
            except BaseException:
                with undisturbed():
                    self._project.set_replicas(before)
                    there = self._containers()
                    together([m for m in plan.started if m in there], self._remove)
                    self.state.write(document)
                raise
            gateways = sum(part_of(member) == "gateway" for member in members)
            if plan.edge == "more":
                self._edge_knows(gateways, since)
            together(plan.ended, self._remove)
            self._project.set_replicas(wanted)
            self.state.write({**document, "ports": ports})
            if plan.edge == "fewer":
                self._edge_knows(gateways, since)
                for member in plan.ended:
                    container_acts.clear_place(self.state, member)
            self._write_target(self._target_text())

    def _remove(self, member: str) -> None:
        """End a member for good; the edge knows a gateway by its address, not by its name only."""
        container_acts.remove(self.state, member, stay=part_of(member) == "gateway")

    def _all_run(self, parts: Iterable[str]) -> None:
        """Make sure of it: what is stopped has somebody in its place under its present name."""
        for state in self.status():
            if part_of(state.part) in parts and state.state in ("stopped", "paused"):
                raise StackError(f"{state.part} is {state.state}; start it before you scale")

    def _used_ports(self, document: Mapping[str, Any], members: Collection[str]) -> dict[str, int]:
        """The ports of a stack with these members of the programs."""
        reachable: dict[str, int] = document["reachable"]
        beyond = [member for member in members if port_name(member) not in reachable]
        if beyond:
            raise StackError(
                f"the relay leads to {', '.join(beyond)} only when the stack is started with more: "
                "`python -m system up --containers --replicas N`"
            )
        return {name: document["ports"][name] for name in _EDGE} | relayed.used(reachable, members)

    def _edge_knows(self, gateways: int, since: float) -> None:
        """Wait until the edge, which looks for itself, has found so many gateways.

        Raises:
            PartFailed: it has not.
        """
        (edge,) = container_acts.containers_of(self.state, "edge")
        deadline = time.monotonic() + _EDGE_SECONDS
        while True:
            said = engine.logs(edge, since=since).decode("utf-8", "replace").splitlines()
            found = [line for line in said if line.startswith("gateways: ")]
            followed = found and not found[-1].endswith(NOT_FOLLOWED)
            if followed and len(found[-1].split(", ")) == gateways:
                self._say_ready("edge", "reloaded")
                return
            if time.monotonic() > deadline:
                seen = f"has not found {gateways} gateways after {_EDGE_SECONDS:.0f} s"
                raise PartFailed("edge", seen, container_acts.tail(edge))
            time.sleep(0.1)

    # Starting.

    def _look_for_ground(self) -> None:
        if not engine.reachable():
            raise NotInstalled(no_engine())

    def _start_everything(self, lock: int) -> None:
        state = self.state
        shutil.rmtree(state.logs, ignore_errors=True)  # those of a start that failed
        state.create()
        edge = free(_EDGE)
        credentials = self._project.credentials()
        document = self._opening(edge, credentials, kind=KIND)
        state.write(document)
        images = self._images()
        document[network_faults.IMAGE] = images[network_faults.IMAGE]
        prefixes = composing.free_prefixes()
        self._project.prepare(
            images=images,
            ports=edge,
            prefixes=prefixes,
            replicas=self._replicas,
            upstream_timeout_ms=self._upstream_timeout_ms,
        )
        composing.up(self._project, "trial")
        self._say_ready("containers", "started")
        document["front"] = prefixes[0]
        document["reachable"] = self._published()
        members = [name for part in PROGRAMS for name in member_names(part, self._replicas)]
        document["ports"] = self._used_ports(document, members)
        document["stand_ins"] = {
            service: (STANDARD[service], f"{prefixes[1]}.1.1", port)
            for service, port in free(SERVICES).items()
        }
        state.write(document)
        for member in with_members(reversed(PARTS), document["ports"]):  # the used, then the users
            container_acts.wait_until_ready(state, member, strict=True, seconds=_READY_SECONDS)
            self._say_ready(member)
        self._write_target(self._target_text())
        state.mark("up")

    def _images(self) -> dict[str, str]:
        """Images named after their content; only what is not there yet is built.

        Where mmdebstrap is installed (`bin/install containers`) they stand on distribution
        packages and need no registry; elsewhere on the official images.
        """
        from system.images.build import Images

        official = which("mmdebstrap") is None
        return Images(official=official, say=self._say).build()

    def _published(self) -> dict[str, int]:
        """Port of this machine for each port (R0.6) by which the relay leads to a part."""
        (relay,) = container_acts.containers_of(self.state, RELAY)
        bound = engine.inspect(relay)["NetworkSettings"]["Ports"]
        inner = relayed.inner_ports(self._replicas)
        return {name: int(bound[f"{port}/tcp"][0]["HostPort"]) for name, port in inner.items()}

    def _containers(self) -> dict[str, str]:
        """The container of each member, and of what is none of the parts."""
        found = {
            (str(labels[SERVICE_LABEL]), int(labels[NUMBER_LABEL])): str(container["Id"])
            for container in engine.containers(_labels(self._project.name))
            if SERVICE_LABEL in (labels := container["Labels"])  # a place-holder has no such label
        }
        several = {part for part, number in found if number > 1}
        return {
            f"{part}-{number}" if part in several else part: container
            for (part, number), container in sorted(found.items())
        }

    def _target_text(self) -> str:
        document = self.state.read()
        ports, front = document["ports"], document["front"]
        values = target_file.document(
            name=self.name,
            project=self.state.project,
            ports=ports,
            credentials=self._project.credentials(),
            ca=self._project.ca,
            logs=self.state.logs,
            upstream_timeout_ms=self._upstream_timeout_ms,
        )
        values["name"] = "reference platform (containers)"
        for service, (_, host, port) in document["stand_ins"].items():
            values["services"][service]["stand_in"] = f"{host}:{port}"
            values["control"][service]["lend"] = target_file.control_command(
                self.state.project, self.name, service, "lend"
            )
        values["addresses"] = {
            "exempt": [compose.EXEMPT.format(front=front)],
            "limited": compose.LIMITED.format(front=front),
            "relays": {
                f"localhost:{ports['edge-https']}": f"127.0.0.1:{ports['relay-edge']}",
            }
            | {
                f"127.0.0.1:{ports[port_name(gateway)]}": (
                    f"127.0.0.1:{ports[relayed.relay_name(gateway)]}"
                )
                for gateway in with_members(("gateway",), ports)
            },
        }
        values["faults"] = target_file.faults(self.state.project, self.name, network_faults.WAYS)
        return target_file.render(values)

    # Ending and knowing.

    def _end_everything(self) -> None:
        if not self.state.exists():
            return
        if engine.reachable():
            remove(self._project.name)
        for entry in self.state.path.iterdir():
            if entry.name not in ("lock", "logs", "stack.json", "boot"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)

    def _is_up(self) -> bool:
        try:
            up = self.state.read()["phase"] == "up"
        except StackError:
            return False
        return up and all(state.state in ("ready", "paused") for state in self.status())

    def _state_of(self, part: str, container: str | None) -> PartState:
        if container is None:
            return PartState(part, "stopped", 0, 0)
        facts = engine.inspect(container)["State"]
        if facts["Paused"]:
            return PartState(part, "paused", int(facts["Pid"]), 0)
        if not facts["Running"]:
            return PartState(part, "stopped", 0, 0)
        how = container_acts.readiness_of(self.state, part)
        seen = readiness.problem(how, strict=True)
        memory = engine.memory_bytes(container)
        return PartState(part, seen or "ready", int(facts["Pid"]), memory)


def no_engine() -> str:
    """What to tell somebody who has no Docker engine."""
    return (
        f"no Docker engine answers at {engine.host()}; `python -m system engine up` starts one of "
        "this project's own, or name yours in DOCKER_HOST"
    )


def start_legacy(state: StateFolder) -> None:
    """Start the legacy database if it does not run, and wait until it answers."""
    with state.held(alone=False), state.part_held(LEGACY):
        composing.up(compose.Project(state), "migration", service=LEGACY)
        container_acts.wait_until_ready(state, LEGACY, strict=False)


def remove_legacy(state: StateFolder) -> bool:
    """Remove the legacy database and its data; returns whether it was there."""
    project = container_acts.project_of(state)
    with state.held(alone=False), state.part_held(LEGACY):
        found = engine.containers({**_labels(project), SERVICE_LABEL: LEGACY})
        for container in found:
            engine.remove(str(container["Id"]))
        engine.remove_volume(f"{project}_{LEGACY}")
    return bool(found)


def remove(project: str) -> None:
    """Remove all containers, networks and volumes of a compose project; data goes with them."""
    from concurrent.futures import ThreadPoolExecutor

    found = [str(container["Id"]) for container in engine.containers(_labels(project))]
    if found:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(engine.remove, found))
    engine.remove_networks_and_volumes(_labels(project))


def sweep() -> list[str]:
    """Remove what this user's stacks have left on the engine though their folders are gone.

    Returns:
        the compose projects that were removed.
    """
    if not engine.reachable():
        return []
    mine = f"seatrial-{os.getuid()}-"
    known = {
        str(entry["Labels"].get(PROJECT_LABEL))
        for entry in (*engine.containers({}), *engine.networks({}))
    }
    left = [
        name for name in sorted(known) if name.startswith(mine) and not Path("/tmp", name).is_dir()
    ]
    for project in left:
        remove(project)
    return left


def _labels(project: str) -> dict[str, str]:
    return {PROJECT_LABEL: project}
