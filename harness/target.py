"""The target: what is judged, where it is, which access it grants. Read from one TOML file."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from harness.criterion import Access, Criterion, Effect

SCHEMA = 1


class TargetError(ValueError):
    """The target file cannot be used; lists every fault at once.

    Attributes:
        faults: one sentence each: what was seen, what was expected.
    """

    def __init__(self, path: Path | str, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"target file {path} cannot be used:\n{lines}")


class Http(msgspec.Struct, frozen=True):
    """The public entry: ``origin`` (https), ``plain`` (http), ``websocket`` (wss), ``ca`` file.

    ``openapi`` is a file with the API's description as JSON; empty: the origin's /api-docs.json.
    """

    origin: str
    plain: str = ""
    websocket: str = ""
    ca: str = ""
    openapi: str = ""


class Addresses(msgspec.Struct, frozen=True):
    """Source addresses of probes: free of rate limits, and limited (a network).

    Attributes:
        relays: ``host:port`` of a place → ``host:port`` of the relay that connects to it from any
            of these addresses; empty where this machine can bind them itself.
    """

    exempt: tuple[str, ...] = ()
    limited: str = ""
    relays: dict[str, str] = msgspec.field(default_factory=dict)


class Service(msgspec.Struct, frozen=True):
    """A service's own port: of its first member, and of all where it has several.

    Attributes:
        stand_in: ``host:port`` on the harness's machine where somebody listens who takes the
            service's place while its control command ``lend`` is in force; empty where a stopped
            service leaves its own port to whoever wants it.
    """

    url: str
    members: tuple[str, ...] = ()
    stand_in: str = ""


class Account(msgspec.Struct, frozen=True):
    """A person who may log in."""

    email: str
    password: str


class Settings(msgspec.Struct, frozen=True):
    """Values of the target's configuration that gates depend on."""

    upstream_timeout_ms: int = 30000


class Amqp(msgspec.Struct, frozen=True):
    """The broker: AMQP URL, management API, its credentials, the exchange, all account names."""

    url: str
    management: str
    user: str
    password: str
    exchange: str = "events"
    users: tuple[str, ...] = ()


class Redis(msgspec.Struct, frozen=True):
    """The cache server."""

    url: str


class DatabaseAccess(msgspec.Struct, frozen=True):
    """One database: as superuser (or reader), and as the service's own role."""

    url: str
    service_url: str = ""


class SigningKey(msgspec.Struct, frozen=True):
    """A token-signing key of the target."""

    kid: str
    secret: str


class SigningKeys(msgspec.Struct, frozen=True):
    """The keys for access and refresh tokens."""

    access: SigningKey
    refresh: SigningKey


class Internal(msgspec.Struct, frozen=True):
    """The service token of the internal API."""

    token: str


class Webhooks(msgspec.Struct, frozen=True):
    """What signs the payment provider's notices."""

    secret: str


class Logs(msgspec.Struct, frozen=True):
    """Where the parts' logs are: ``<folder>/<part>.log``."""

    folder: str


class AccessTable(msgspec.Struct, frozen=True):
    """Access beyond HTTP; what is None was not granted."""

    amqp: Amqp | None = None
    redis: Redis | None = None
    db: dict[str, DatabaseAccess] = msgspec.field(default_factory=dict)
    keys: SigningKeys | None = None
    internal: Internal | None = None
    webhooks: Webhooks | None = None
    logs: Logs | None = None


class ControlCommands(msgspec.Struct, frozen=True):
    """Shell commands that act on one part; each returns when the action is done.

    ``lend`` ends the part and leads its place to the service's ``stand_in``, until ``start``.
    """

    stop: str = ""
    start: str = ""
    pause: str = ""
    resume: str = ""
    lend: str = ""


class FaultCommands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shell commands that disturb the way between a part and one of its dependencies.

    Each returns when the fault is in force, also for connections that exist already; doing it
    again changes nothing. Nobody else's way to the dependency is disturbed.

    Attributes:
        cut: nothing gets through, in silence.
        slow: everything arrives ``{milliseconds}`` later, each way.
        lose: ``{percent}`` of all packets get lost, each way.
        heal: ends all of these.
    """

    cut: str = ""
    slow: str = ""
    lose: str = ""
    heal: str = ""


# What stands for the amount in a fault's command.
PLACEHOLDERS = {"cut": "", "slow": "{milliseconds}", "lose": "{percent}"}


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployed system, seen through the network, and what may be done to it.

    Attributes:
        schema: version of this file's form, 1.
        name: how the report calls it.
        allow: effects beyond reads that are allowed where the origin is not on loopback.
        parts: per part true, or the reason why it is absent.
        faults: by part and dependency, how the way between them is disturbed.
    """

    schema: int
    http: Http
    name: str = ""
    allow: tuple[Effect, ...] = ()
    addresses: Addresses = Addresses()
    parts: dict[str, bool | str] = msgspec.field(default_factory=dict)
    services: dict[str, Service] = msgspec.field(default_factory=dict)
    accounts: dict[str, Account] = msgspec.field(default_factory=dict)
    settings: Settings = Settings()
    access: AccessTable = AccessTable()
    commands: dict[str, str] = msgspec.field(default_factory=dict)
    control: dict[str, ControlCommands] = msgspec.field(default_factory=dict)
    faults: dict[str, dict[str, FaultCommands]] = msgspec.field(default_factory=dict)

    def absence(self, part: str) -> str | None:
        """Why the target has no such part; None when it has it (parts not listed are present)."""
        state = self.parts.get(part, True)
        if state is True:
            return None
        return state if isinstance(state, str) else "declared absent"

    def members_of(self, service: str) -> tuple[str, ...]:
        """The addresses of all members of a service, the first one first; none if not named."""
        found = self.services.get(service)
        return () if found is None else found.members or (found.url,)

    def on_loopback(self) -> bool:
        """True when the origin can only be this machine."""
        host = urlsplit(self.http.origin).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def forbidden_effects(self, criterion: Criterion) -> tuple[Effect, ...]:
        """Effects of the criterion that this target does not allow."""
        if self.on_loopback():
            return ()
        return tuple(e for e in criterion.effects if e is not Effect.READS and e not in self.allow)

    def missing_access(self, criterion: Criterion) -> dict[Access, str]:
        """The access the criterion needs and the target does not grant, with how to grant it."""
        return {need: _HOW_TO_GRANT[need] for need in criterion.needs if not self._grants(need)}

    def _grants(self, need: Access) -> bool:
        access = self.access
        return {
            Access.AMQP: access.amqp is not None,
            Access.DB: bool(access.db),
            Access.REDIS: access.redis is not None,
            Access.SERVICES: bool(self.services),
            Access.METRICS: bool(self.services),
            Access.LOGS: access.logs is not None,
            Access.CONTROL: bool(self.control),
            Access.KEY: access.keys is not None,
            Access.DIAG: access.internal is not None and bool(self.services),
            Access.EXEMPT: bool(self.addresses.exempt),
            Access.TWO: bool(self.addresses.limited),
            Access.DLQ: "dlq" in self.commands,
        }[need]

    def control_of(self, part: str) -> ControlCommands | None:
        """The commands that act on a part; None when the target grants none for it."""
        return self.control.get(part)

    def fault_of(self, part: str, dependency: str, kind: str) -> str:
        """The command that disturbs this way so (cut, slow, lose, heal); empty if not offered."""
        commands = self.faults.get(part, {}).get(dependency)
        return getattr(commands, kind) if commands else ""


_HOW_TO_GRANT = {
    Access.AMQP: "[access.amqp] with url, management, user, password",
    Access.DB: "[access.db.<service>] with url and service_url",
    Access.REDIS: "[access.redis] with url",
    Access.SERVICES: "[services.<name>] with url",
    Access.METRICS: "[services.<name>] with url (their /metrics)",
    Access.LOGS: "[access.logs] with folder",
    Access.CONTROL: "[control.<part>] with stop, start, pause, resume",
    Access.KEY: "[access.keys] with access and refresh",
    Access.DIAG: "[access.internal] with token, and [services.<name>]",
    Access.EXEMPT: "[addresses] exempt",
    Access.TWO: "[addresses] limited",
    Access.DLQ: "[commands] dlq",
}


def load(path: Path) -> Target:
    """Read a target file.

    Raises:
        TargetError: the file is missing, is not TOML or breaks the schema; nothing was contacted.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(path, [f"cannot be read: {error.strerror}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise TargetError(path, [f"not TOML: {error}"]) from error
    return parse(document, path)


def parse(document: Mapping[str, Any], source: Path | str = "(document)") -> Target:
    """Make a target of a parsed document; see `load` for the errors."""
    try:
        target = msgspec.convert(document, Target)
    except msgspec.ValidationError as error:
        raise TargetError(source, [str(error)]) from error
    faults = list(_faults(target))
    if faults:
        raise TargetError(source, faults)
    return target


def _faults(target: Target) -> Iterator[str]:
    if target.schema != SCHEMA:
        yield f"schema is {target.schema}, expected {SCHEMA}"
    for key, schemes in (("origin", ("https",)), ("plain", ("http",)), ("websocket", ("wss",))):
        value = getattr(target.http, key)
        if value and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
            yield f"http.{key} is {value!r}, expected {schemes[0]}://host[:port]"
    for key in ("ca", "openapi"):
        value = getattr(target.http, key)
        if value and not Path(value).is_file():
            yield f"http.{key} is {value!r}, but there is no such file"
    for name, service in target.services.items():
        if service.members and service.members[0] != service.url:
            yield f"services.{name}.members begins with {service.members[0]!r}, expected its url"
    for text in (*target.addresses.exempt, target.addresses.limited):
        if text:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield f"addresses: {text!r} is neither an address nor a network"
    for part, ways in target.faults.items():
        for dependency, commands in ways.items():
            yield from _faults_of_way(f"faults.{part}.{dependency}", commands)
    for place in (*target.addresses.relays, *target.addresses.relays.values()):
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal():
            yield f"addresses.relays: {place!r} is no place, expected host:port"


def _faults_of_way(table: str, commands: FaultCommands) -> Iterator[str]:
    """What is wrong with the commands of one way; ``table`` is their place in the file."""
    for kind, placeholder in PLACEHOLDERS.items():
        command = getattr(commands, kind)
        if command and placeholder not in command:
            yield f"{table}.{kind} is {command!r}, expected {placeholder} in it"
        if command and not commands.heal:
            yield f"{table} has {kind} but no heal, expected the command that ends it"
