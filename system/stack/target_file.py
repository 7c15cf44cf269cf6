"""Writes the target file: where the platform is, what it has, and the access it grants."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from system.stack import environment
from system.stack.credentials import ACCOUNTS, OPERATOR, Credentials
from system.stack.parts import PARTS, PROGRAMS, SERVICES, replicas_of, with_members

_NOT_BUILT = "not built yet"
_FEATURES: dict[str, bool | str] = {
    "websocket": True,
    "audit-log": True,
    "pages": True,
    "graphql": True,
    "profile-api": True,
    "admin-users": True,
    "password-change": True,
    "devices": True,
    "key-rotation": True,
    "webhooks": True,
    "reports": True,
    "recipients": True,
    "api-docs": True,
    "lockout": True,
    "cookies": True,
    "frontend": _NOT_BUILT,
}
_CONTROLLED = ("stop", "start", "pause", "resume")
# The placeholders are the harness's.
_FAULTS = {
    "cut": (),
    "slow": ("--milliseconds", "{milliseconds}"),
    "lose": ("--percent", "{percent}"),
    "heal": (),
}


def document(
    *,
    name: str,
    project: Path,
    ports: Mapping[str, int],
    credentials: Credentials,
    ca: Path,
    logs: Path,
    upstream_timeout_ms: int = environment.UPSTREAM_TIMEOUT_MS,
) -> dict[str, Any]:
    """The target as plain values, in the order of its schema."""
    origin = environment.public_origin(ports)
    return {
        "schema": 1,
        "name": "reference platform (native)",
        "allow": ["writes", "loads", "disrupts"],
        "http": {
            "origin": origin,
            "plain": environment.plain_origin(ports),
            "websocket": origin.replace("https:", "wss:") + "/ws",
            "ca": str(ca),
        },
        "addresses": {"exempt": list(environment.EXEMPT), "limited": environment.LIMITED},
        "parts": dict.fromkeys(PARTS, True) | _FEATURES | {"replicas": _replicas(ports)},
        "services": {part: _service(part, ports) for part in PROGRAMS},
        "accounts": ACCOUNTS,
        "settings": {"upstream_timeout_ms": upstream_timeout_ms},
        "access": _access(ports, credentials, logs),
        "commands": {
            "dlq": _dlq_command(project, ports, credentials),
            "schema": _system_command(project, name, "db", "migrate"),
            "migrate": _migrate_command(project, ports, credentials),
            "legacy": _system_command(project, name, "legacy"),
            **_several_commands(project, name, ports),
        },
        "control": {
            part: {action: control_command(project, name, part, action) for action in _CONTROLLED}
            for part in dict.fromkeys((*PARTS, *with_members(PARTS, ports)))
        },
    }


def render(values: Mapping[str, Any]) -> str:
    """The target as TOML."""
    lines: list[str] = []
    _table(lines, (), values)
    return "\n".join(lines).lstrip("\n") + "\n"


def _replicas(ports: Mapping[str, int]) -> bool | str:
    alone = [part for part in PROGRAMS if replicas_of(part, ports) == 1]
    if len(alone) == len(PROGRAMS):
        return "one member of each part"
    return f"one member of {', '.join(alone)}" if alone else True


def _service(part: str, ports: Mapping[str, int]) -> dict[str, Any]:
    members = environment.member_urls(part, ports)
    return {"url": members[0]} | ({"members": members} if len(members) > 1 else {})


def _several_commands(project: Path, name: str, ports: Mapping[str, int]) -> dict[str, str]:
    """What can be done only where something is left to serve meanwhile."""
    if _replicas(ports) is not True:
        return {}
    return {"rolling-restart": _system_command(project, name, "restart", "--rolling")}


def _access(ports: Mapping[str, int], credentials: Credentials, logs: Path) -> dict[str, Any]:
    return {
        "amqp": {
            "url": environment.rabbitmq_url(ports, credentials, OPERATOR),
            "management": f"http://127.0.0.1:{ports['rabbitmq-management']}",
            "user": OPERATOR,
            "password": credentials.broker[OPERATOR],
            "exchange": environment.EXCHANGE,
            "users": sorted(credentials.broker),
        },
        "redis": {"url": environment.redis_url(ports, credentials)},
        "db": {
            service: {
                "url": environment.superuser_url(service, ports, credentials),
                "service_url": environment.runtime_url(service, ports, credentials),
            }
            for service in SERVICES
        },
        "keys": {
            "access": {"kid": credentials.access.kid, "secret": credentials.access.secret},
            "refresh": {"kid": credentials.refresh.kid, "secret": credentials.refresh.secret},
        },
        "internal": {"token": credentials.internal_token},
        "webhooks": {"secret": credentials.psp_webhook},
        "logs": {"folder": str(logs)},
    }


def _dlq_command(project: Path, ports: Mapping[str, int], credentials: Credentials) -> str:
    """`bin/dlq` with the environment it reads, ready for a shell."""
    return shlex.join(
        [
            "env",
            f"RABBITMQ_URL={environment.rabbitmq_url(ports, credentials, OPERATOR)}",
            f"RABBITMQ_EXCHANGE={environment.EXCHANGE}",
            f"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            str(project / "bin" / "dlq"),
        ]
    )


def _migrate_command(project: Path, ports: Mapping[str, int], credentials: Credentials) -> str:
    """`bin/migrate` with the environment it reads, ready for a shell."""
    variables = environment.migration_environment(ports, credentials)
    return shlex.join(
        [
            "env",
            *(f"{name}={value}" for name, value in variables.items()),
            f"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            str(project / "bin" / "migrate"),
        ]
    )


def control_command(project: Path, name: str, part: str, action: str) -> str:
    return _system_command(project, name, "control", part, action)


def faults(project: Path, name: str, ways: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`[faults.<part>.<dependency>]` for each way from a part to a dependency."""
    tables: dict[str, Any] = {}
    for part, dependency in ways:
        tables.setdefault(part, {})[dependency] = {
            act: _system_command(project, name, "fault", act, part, dependency, *amount)
            for act, amount in _FAULTS.items()
        }
    return tables


def _system_command(project: Path, name: str, *arguments: str) -> str:
    return shlex.join(
        [
            "env",
            f"PYTHONPATH={project}",
            sys.executable,
            "-m",
            "system",
            "--stack",
            name,
            *arguments,
        ]
    )


def _table(lines: list[str], path: tuple[str, ...], values: Mapping[str, Any]) -> None:
    """Append a table: its plain values first, then the tables inside it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    if path and (plain or not values):
        lines += ["", f"[{'.'.join(_key(piece) for piece in path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            _table(lines, (*path, key), value)


def _key(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() else _value(text)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(character) < 32 for character in text):
        raise ValueError(f"{value!r} holds a control character; expected one line of text")
    return f'"{text}"'
