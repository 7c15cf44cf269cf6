"""The platform as local processes: starts them, ends them, changes single parts."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from system.stack import (
    acts,
    environment,
    lifetime,
    ports,
    process,
    programs,
    scaling,
    target_file,
)
from system.stack.acts import PartFailed
from system.stack.credentials import Credentials, generate
from system.stack.errors import NotInstalled, StackError, UnknownPart
from system.stack.launch import Launch
from system.stack.lifetime import PartState, undisturbed
from system.stack.parts import (
    DATABASES,
    ENDING_ORDER,
    LEGACY,
    OPTIONAL,
    PARTS,
    PROGRAMS,
    SERVICES,
    TITLED_PROGRAMS,
    member_names,
    part_of,
    port_name,
    with_members,
)
from system.stack.state import MARKER

__all__ = ["Override", "PartFailed", "PartState", "Stack", "StackError"]

_READY_SECONDS = 300.0  # a busy machine is slow, not broken; a part that ends is seen at once
_SETTLE_SECONDS = 20.0  # a little more than reconnecting to the broker may take (R3.20)
_RENDERED = ("edge", "rabbitmq", "redis")  # parts whose configuration is a text of ours


@dataclass(frozen=True)
class Override:
    """A change of one part, applied from outside (for defects); the default changes nothing.

    Attributes:
        command_prefix: put before the part's command; ``python`` in front means the stack's own.
        environment: variables set or replaced.
        render_transform: changes the part's rendered text: nginx.conf (edge), definitions.json
            (rabbitmq), redis.conf (redis).
    """

    command_prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    render_transform: Callable[[str], str] | None = None


class Stack(lifetime.Stack):
    """A reference platform of local processes; ``overrides`` change parts from outside."""

    def __init__(
        self,
        name: str = "default",
        *,
        overrides: Mapping[str, Override] | None = None,
        standard_ports: bool = False,
        replicas: int = 1,
        upstream_timeout_ms: int = environment.UPSTREAM_TIMEOUT_MS,
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
        self.overrides = dict(overrides or {})
        self._standard_ports = standard_ports
        self._ports: dict[str, int] = {}
        self._credentials: Credentials | None = None
        self._abandoned = threading.Event()
        _check_overrides(self.overrides)

    # The whole platform.

    def status(self) -> list[PartState]:
        """How each part is.

        Raises:
            StackNotThere: the stack was not started.
        """
        self.state.read()
        return [self._state_of(part) for part in self.state.launches()]

    def logs(self) -> list[Path]:
        """The parts' logs as files."""
        return sorted(self.state.logs.glob("*.log"))

    # Single parts.

    def control(self, part: str, action: str) -> None:
        """Stop, start, restart, kill, pause or resume a part or a member; see `acts.control`."""
        acts.control(self.state, part, action)

    def restart(self, part: str, override: Override | None = None) -> None:
        """Restart one part with an override, or without any.

        The broker starts from nothing when its definitions change, since importing definitions
        only ever adds.
        """
        self.apply({**self.overrides, part: override or Override()}, touched={part})

    def apply(
        self, overrides: Mapping[str, Override], *, touched: set[str] | None = None
    ) -> list[str]:
        """Bring the running platform to these overrides; restarts only the parts that differ.

        Args:
            overrides: all that are to be in force; parts not named run as designed.
            touched: parts to restart even if nothing differs.

        Returns:
            the parts that were restarted.
        """
        _check_overrides(overrides)
        self._recall()
        wanted = {part: override for part, override in overrides.items() if override != Override()}
        changed = [
            part
            for part in (*DATABASES, "rabbitmq", "redis", *SERVICES, "gateway", "edge")
            if wanted.get(part) != self.overrides.get(part) or part in (touched or ())
        ]
        before, self.overrides = self.overrides, wanted
        with self.state.held(alone=True) as lock:
            # All of them end before the first starts: a part still running as before would put
            # back what another one's change takes away, such as a binding at the broker.
            for part in reversed(changed):
                acts.together(
                    self.state.members_of(part),
                    lambda member: acts.end(self.state, member, quick=False),
                )
            if "rabbitmq" in changed and _transform(before, "rabbitmq") != _transform(
                wanted, "rabbitmq"
            ):
                shutil.rmtree(self.state.path / "rabbitmq" / "mnesia", ignore_errors=True)
            for part in changed:
                members = self.state.members_of(part)
                for member in members:
                    acts.spawn(self.state, self._launch_again(member), lock)
                for member in members:
                    acts.wait_until_ready(self.state, member, strict=False)
            self._settle()
        return changed

    def scale(self, wanted: Mapping[str, int]) -> None:
        """Change how many of each run; callers of services learn of it by a rolling restart."""
        self._began = time.monotonic()
        self.state.read()  # before the lock, which would make the folder
        with self.state.held(alone=True) as lock:
            self._recall()
            plan = scaling.plan(self._ports, wanted)
            self._start_further(plan, lock)
            if plan.edge == "more":
                self._reload_edge()
            for member in plan.restarted:
                acts.end(self.state, member, quick=False)
                self._start_member(member, lock)
            if plan.edge == "fewer":
                self._reload_edge()
            acts.together(plan.ended, lambda member: acts.end(self.state, member, quick=False))
            self._forget(plan.ended, plan.returned)
            for member in with_members(PROGRAMS, self._ports):  # what a later start needs to know
                self.state.keep_launch(self._launch(member))
            self._write_target(self._target_text())

    def _start_further(self, plan: scaling.Plan, lock: int) -> None:
        """Start the new members of a plan; the ports of those that are to end are given up."""
        before = self._ports
        further = ports.free(
            map(port_name, plan.started),
            usable=lambda port: port not in before.values() and ports.available(port),
        )
        gone = set(map(port_name, plan.ended))
        self._ports = {n: p for n, p in before.items() if n not in gone} | further
        for member, name in plan.renamed.items():
            self.state.rename(member, name)
        try:
            for member in plan.started:
                acts.spawn(self.state, self._launch(member), lock)
            for member in plan.started:
                acts.wait_until_ready(self.state, member, strict=True)
                self._say_ready(member)
        except BaseException:
            with undisturbed():
                acts.together(plan.started, lambda member: acts.end(self.state, member, quick=True))
                self._forget(plan.started, {new: old for old, new in plan.renamed.items()})
                self._ports = before
                for member in plan.renamed:
                    self.state.keep_launch(self._launch(member))
            raise
        self.state.write({**self.state.read(), "ports": self._ports})

    def _start_member(self, member: str, lock: int) -> None:
        acts.spawn(self.state, self._launch(member), lock)
        acts.wait_until_ready(self.state, member, strict=True)
        self._say_ready(member, "restarted")

    def _forget(self, members: Iterable[str], renamed: Mapping[str, str]) -> None:
        for member in members:
            self.state.forget(member)
        for member, name in renamed.items():
            self.state.rename(member, name)

    def _reload_edge(self) -> None:
        """Render the edge with the gateways there are now, and have it follow."""
        from system.edge.reload import reload

        self.state.keep_launch(self._launch("edge"))
        found = self.state.process_of("edge")
        if found is None:
            return  # whoever starts it finds the new configuration
        if not reload(found.pid):
            raise PartFailed(self.state, "edge", "has not followed its new configuration")
        self._say_ready("edge", "reloaded")

    def execute(self, service: str, statement: str) -> None:
        """Run a statement in a service's database as the cluster's superuser (for defects)."""
        import psycopg

        self._recall()
        url = environment.superuser_url(service, self._ports, self._known_credentials())
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    # Starting.

    def _look_for_ground(self) -> None:
        _all_installed()

    def _start_everything(self, lock: int) -> None:
        state = self.state
        state.point()
        shutil.rmtree(state.logs, ignore_errors=True)  # those of a start that failed
        state.create()
        self._abandoned.clear()
        self._ports = (
            ports.standard(self._replicas)
            if self._standard_ports
            else ports.free(ports.names(self._replicas))
        )
        self._credentials = generate()
        state.write(self._opening(self._ports, self._credentials))

        def ready(part: str, *, strict: bool) -> None:
            acts.wait_until_ready(
                state, part, strict=strict, seconds=_READY_SECONDS, given_up=self._abandoned.is_set
            )
            if not self._abandoned.is_set():
                self._say_ready(part)

        def spawn(launch: Launch) -> None:
            if self._abandoned.is_set():
                raise _Abandoned
            acts.spawn(state, launch, lock)

        with ThreadPoolExecutor(max_workers=10, thread_name_prefix="stack") as pool:
            tasks: list[Future[None]] = []
            try:
                self._submit_all(pool, tasks, spawn, ready)
                done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
                for task in done:
                    task.result()
            except BaseException:
                self._abandoned.set()
                for task in tasks:
                    task.cancel()
                raise
        self._write_target(self._target_text())
        state.mark("up")

    def _submit_all(
        self,
        pool: ThreadPoolExecutor,
        tasks: list[Future[None]],
        spawn: Callable[[Launch], None],
        ready: Callable[..., None],
    ) -> None:
        """Start what takes longest first; each task is one part, or one service with its own."""
        from system.stack import postgres, services

        credentials = self._known_credentials()
        marker = {MARKER: str(self.state.path)}

        def one(part: str, *needs: Future[None]) -> None:
            members = member_names(part, self._replicas)
            for member in members:
                spawn(self._launch(member))
            for need in needs:  # what it waits for is to blame when it does not get ready
                need.result()
            for member in members:
                ready(member, strict=True)

        def service_with_database(service: str) -> None:
            database = f"postgres-{service}"
            data, initial = template.result()
            port = self._ports[database]
            spawn(
                self._changed(
                    postgres.prepare(service, port, self.state.path / database, data, marker)
                )
            )
            ready(database, strict=True)
            postgres.make_roles(
                service,
                port,
                initial=initial,
                superuser=credentials.superusers[service],
                owner=credentials.owners[service],
                runtime=credentials.runtimes[service],
            )
            owner_url = environment.owner_url(service, self._ports, credentials)
            services.migrate(service, owner_url)
            if service == "auth":
                variables = environment.process_environment(service, self._ports, credentials)
                services.seed_accounts(owner_url, variables)
            one(service, broker, cache)

        broker = pool.submit(one, "rabbitmq")
        template = pool.submit(
            postgres.template, self.state.project / ".seatrial" / "cache", self.state.path, marker
        )
        cache = pool.submit(one, "redis")
        own = [pool.submit(service_with_database, name) for name in SERVICES]
        gateway = pool.submit(one, "gateway", broker, cache, *own)
        edge = pool.submit(one, "edge", gateway)
        tasks += [broker, cache, *own, gateway, edge]

    def _launch(self, member: str) -> Launch:
        """Render a member's files and say how it is started, its part's override included."""
        from system.stack import broker, edge, redis_server, services

        part = part_of(member)
        credentials = self._known_credentials()
        folder = self.state.path / member
        transform = _transform(self.overrides, part)
        if part == "rabbitmq":
            launch = broker.prepare(folder, self._ports, credentials, transform)
        elif part == "redis":
            launch = redis_server.prepare(
                self._ports["redis"], credentials.redis, folder, transform
            )
        elif part == "edge":
            launch = edge.prepare(self.state, self._ports, transform)
        elif part in PROGRAMS:
            launch = services.prepare(
                member,
                folder,
                self._ports,
                credentials,
                project=self.state.project,
                upstream_timeout_ms=self._upstream_timeout_ms,
            )
        else:
            raise UnknownPart(f"{part!r} is not a part that can be rendered again")
        return self._changed(launch)

    def _launch_again(self, member: str) -> Launch:
        if member not in DATABASES:
            return self._launch(member)
        return self._changed(self.state.plain_launch_of(member))

    def _changed(self, launch: Launch) -> Launch:
        """The launch with its part's override; the plain one is kept beside it."""
        self.state.keep_plain_launch(launch)
        override = self.overrides.get(part_of(launch.part))
        if override is None:
            return launch
        prefix = override.command_prefix
        if prefix and prefix[0] == "python":
            prefix = (sys.executable, *prefix[1:])
        return replace(
            launch,
            command=(*prefix, *launch.command),
            environment={**launch.environment, **override.environment},
        )

    def _settle(self) -> None:
        """After a change, give all parts time to find each other again; a defect may forbid it."""
        from system.stack import readiness

        deadline = time.monotonic() + _SETTLE_SECONDS
        for member in with_members((*SERVICES, "gateway", "edge"), self._ports):
            how = self.state.launch_of(member).readiness
            while readiness.problem(how, strict=True) and time.monotonic() < deadline:
                time.sleep(0.05)

    # Ending.

    def _end_everything(self) -> None:
        """End all processes of this stack, recorded or found by its marker."""
        state = self.state
        if not state.exists():
            return
        launched = state.launches()
        for group in ENDING_ORDER:
            members = [member for member in launched if part_of(member) in group]
            if members:
                acts.together(members, lambda member: acts.end(state, member, quick=True))
        stray = list(process.belonging(state.path, state.marker, TITLED_PROGRAMS))
        for found in stray:
            found.signal(signal.SIGKILL)
        process.wait_until_ended(stray, 5.0)
        for database in (*DATABASES, LEGACY):
            data = state.path / database / "data"
            if (data / "postmaster.pid").exists():
                from system.stack import postgres

                postgres.free_shared_memory(data)
        for entry in state.path.iterdir():
            if entry.name not in ("lock", "logs", "stack.json", "boot"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)

    # Knowing.

    def _is_up(self) -> bool:
        if not self.state.exists():
            return False
        try:
            document = self.state.read()
        except StackError:
            return False
        parts = [part for part in self.state.launches() if part not in OPTIONAL]
        running = all(self.state.process_of(part) for part in parts)
        return bool(document["phase"] == "up" and parts and running)

    def _recall(self) -> None:
        """Read ports and credentials of a stack that another object started."""
        document = self.state.read()
        self._ports = dict(document["ports"])
        self._credentials = Credentials.from_document(document["credentials"])
        self._upstream_timeout_ms = int(document["upstream_timeout_ms"])

    def _known_credentials(self) -> Credentials:
        if self._credentials is None:
            self._recall()
        assert self._credentials is not None
        return self._credentials

    def _target_text(self) -> str:
        return target_file.render(
            target_file.document(
                name=self.name,
                project=self.state.project,
                ports=self._ports,
                credentials=self._known_credentials(),
                ca=self.state.path / "tls" / "ca.pem",
                logs=self.state.logs,
                upstream_timeout_ms=self._upstream_timeout_ms,
            )
        )

    def _state_of(self, member: str) -> PartState:
        from system.stack import readiness

        found = self.state.process_of(member)
        if found is None:
            return PartState(member, "stopped", 0, 0)
        memory = process.memory_bytes(found)
        facts = process.read(found.pid)
        if facts is not None and facts.state == "T":
            return PartState(member, "paused", found.pid, memory)
        seen = readiness.problem(self.state.launch_of(member).readiness, strict=True)
        return PartState(member, seen or "ready", found.pid, memory)


class _Abandoned(StackError):
    """Another part failed first; never shown."""


def _transform(overrides: Mapping[str, Override], part: str) -> Callable[[str], str] | None:
    override = overrides.get(part)
    return override.render_transform if override else None


def _check_overrides(overrides: Mapping[str, Override]) -> None:
    for part, override in overrides.items():
        if part not in PARTS:
            raise UnknownPart(f"there is no part {part!r}; the parts are {', '.join(PARTS)}")
        if override.render_transform and part not in _RENDERED:
            raise UnknownPart(
                f"{part} has no rendered text to transform; expected one of {', '.join(_RENDERED)}"
            )


def _all_installed() -> None:
    missing = [
        program
        for program in programs.PROGRAMS
        if program.name in programs.SERVERS and program.find() is None
    ]
    if missing:
        listed = ", ".join(f"{program.name} (package {program.package})" for program in missing)
        raise NotInstalled(f"not installed: {listed}; `{programs.INSTALL}` installs them")
