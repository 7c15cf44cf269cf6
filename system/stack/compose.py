"""Writes what compose.yaml needs from outside: the env file and the files it mounts.

All of it lies in `compose/` of a stack's state folder, which only its owner may enter: an engine
reads it as root and hands single files into the containers, where they must be readable.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from system.broker import definitions
from system.edge import certificates
from system.stack import environment, relayed
from system.stack.credentials import ACCOUNTS, OPERATOR, PLATFORM, Credentials, generate
from system.stack.errors import StackError
from system.stack.parts import PROGRAMS, SERVICES
from system.stack.state import PROJECT, StateFolder

FILE = PROJECT / "system" / "compose.yaml"
PROFILES = ("observability", "load", "migration", "trial")
FRONT_PREFIX, INSIDE_PREFIX = "172.30", "172.31"
EXEMPT, LIMITED = "{front}.2.0/24", "{front}.3.0/24"  # R0.16's, in the network of the edge

_RABBITMQ = """\
listeners.tcp.default = 5672
management.tcp.port = 15672
prometheus.tcp.port = 15692
load_definitions = /etc/rabbitmq/definitions.json
loopback_users = none
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 400MB
"""
_REDIS = """\
bind 0.0.0.0
port 6379
requirepass {password}
dir /data
appendonly yes
save ""
daemonize no
maxclients 2000
"""


_LOAD_TARGET = """\
schema = 1
name = "reference platform (from inside)"
allow = ["writes", "loads"]

[http]
origin = "https://localhost"
ca = "/run/target/ca.pem"

[addresses]
exempt = ["127.0.2.0/24"]

[accounts.admin]
email = "{email}"
password = "{password}"
"""


class Project:
    """The compose project of one stack: its env file and the files that are mounted.

    Attributes:
        name: of the compose project.
        folder: readable by its owner only.
        env_file: for `docker compose --env-file`.
        files: what the containers see of the host.
        additions: a compose file of the relay's further ports.
    """

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self.name = state.path.name  # seatrial-<uid>-<hash>
        self.folder = state.path / "compose"
        self.env_file = self.folder / ".env"
        self.files = self.folder / "files"
        self.additions = self.folder / "members.json"

    @property
    def ca(self) -> Path:
        """The authority that signed the edge's certificate."""
        return self._state.path / "tls" / "ca.pem"

    def credentials(self) -> Credentials:
        """The secrets of this stack: those of its first start."""
        kept = self.folder / "credentials.json"
        try:
            return Credentials.from_document(json.loads(kept.read_text(encoding="utf-8")))
        except FileNotFoundError:
            made = generate()
            _write(kept, json.dumps(made.to_document(), indent=1), 0o600)
            return made

    def prepare(
        self,
        *,
        images: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        prefixes: tuple[str, str] = (FRONT_PREFIX, INSIDE_PREFIX),
        replicas: int = 1,
        upstream_timeout_ms: int = environment.UPSTREAM_TIMEOUT_MS,
        transforms: Mapping[str, Callable[[str], str]] | None = None,
    ) -> Path:
        """Write everything anew; what was decided before (secrets, certificate) stays.

        Args:
            images: variable of compose.yaml, such as ``POSTGRES_IMAGE``, and image name.
            ports: ``edge-http`` and ``edge-https`` on the host; 80 and 443 unless given.
            prefixes: the first two numbers of the networks `front` and `inside`.
            replicas: how many of the gateway and of each service.
            upstream_timeout_ms: of the gateway.
            transforms: change the text of definitions.json (rabbitmq) or redis.conf (redis).

        Returns:
            the env file.
        """
        public = {"edge-https": 443, "edge-http": 80, **(ports or {})}
        self._state.create()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.files.mkdir(mode=0o755, exist_ok=True)
        credentials = self.credentials()
        self._write_certificate()
        self._write_servers(credentials, transforms or {})
        self._write_observability()
        self._write_load_target()
        values = self._values(credentials, public, prefixes, upstream_timeout_ms)
        values |= {f"{part.upper()}_REPLICAS": str(replicas) for part in PROGRAMS}
        _write(self.additions, json.dumps(relayed.additions(self.name, replicas)), 0o600)
        lines = [f"{name}={_quoted(value)}" for name, value in {**values, **(images or {})}.items()]
        _write(self.env_file, "\n".join(lines) + "\n", 0o600)
        self._state.point()
        return self.env_file

    def arguments(self, *profiles: str) -> list[str]:
        """`docker compose` with this project's options, ready for a command."""
        return [
            *compose_command(),
            "--env-file",
            str(self.env_file),
            "-f",
            str(FILE),
            "-f",
            str(self.additions),
            "-p",
            self.name,
            *(option for profile in profiles for option in ("--profile", profile)),
        ]

    def set_replicas(self, replicas: Mapping[str, int]) -> None:
        """Change how many of some parts the env file asks for."""
        text = self.env_file.read_text(encoding="utf-8")
        for part, number in replicas.items():
            text = re.sub(rf"(?m)^({part.upper()}_REPLICAS)=.*$", rf"\1='{number}'", text)
        _write(self.env_file, text, 0o600)

    def _values(
        self,
        credentials: Credentials,
        ports: Mapping[str, int],
        prefixes: tuple[str, str],
        upstream_timeout_ms: int,
    ) -> dict[str, str]:
        # The part of R0.13 that native processes read is computed in one place.
        auth = environment.process_environment("auth", _contract_ports(ports), credentials)
        return {
            "COMPOSE_PROJECT_NAME": self.name,
            "SEATRIAL_FILES": str(self.files),
            "FRONT_PREFIX": prefixes[0],
            "INSIDE_PREFIX": prefixes[1],
            "EDGE_HTTPS_PORT": str(ports["edge-https"]),
            "EDGE_HTTP_PORT": str(ports["edge-http"]),
            "PUBLIC_ORIGIN": environment.public_origin(ports),
            "UPSTREAM_TIMEOUT_MS": str(upstream_timeout_ms),
            "JWT_SECRETS": auth["JWT_SECRETS"],
            "JWT_REFRESH_SECRETS": auth["JWT_REFRESH_SECRETS"],
            "INTERNAL_SERVICE_TOKEN": credentials.internal_token,
            "SECRETS_ENCRYPTION_KEY": credentials.encryption_key,
            "PSP_WEBHOOK_SECRET": credentials.psp_webhook,
            "REDIS_PASSWORD": credentials.redis,
            "RABBITMQ_PLATFORM_PASSWORD": credentials.broker[PLATFORM],
            "GRAFANA_PASSWORD": credentials.broker[OPERATOR],
            **{
                f"{service.upper()}_{kind}_PASSWORD": passwords[service]
                for kind, passwords in (
                    ("SUPERUSER", credentials.superusers),
                    ("OWNER", credentials.owners),
                    ("DATABASE", credentials.runtimes),
                )
                for service in SERVICES
            },
            "LEGACY_SUPERUSER_PASSWORD": credentials.superusers["legacy"],
        }

    def _write_certificate(self) -> None:
        made = certificates.ensure(self._state.path / "tls")
        for source in (made.certificate, made.key):
            _write(self.files / "tls" / source.name, source.read_text(encoding="ascii"), 0o444)

    def _write_servers(
        self, credentials: Credentials, transforms: Mapping[str, Callable[[str], str]]
    ) -> None:
        users = [
            definitions.User(name, password, administrator=name == OPERATOR)
            for name, password in credentials.broker.items()
        ]
        topology = json.dumps(definitions.render(users, exchange=environment.EXCHANGE), indent=1)
        redis = _REDIS.format(password=credentials.redis)
        for name, part, text in (
            ("rabbitmq/definitions.json", "rabbitmq", topology),
            ("redis/redis.conf", "redis", redis),
        ):
            transform = transforms.get(part)
            _write(self.files / name, transform(text) if transform else text, 0o444)
        _write(self.files / "rabbitmq" / "rabbitmq.conf", _RABBITMQ, 0o444)

    def _write_load_target(self) -> None:
        """The target as Locust's workers see it, who share the network of the edge."""
        _write(self.files / "load" / "ca.pem", self.ca.read_text(encoding="ascii"), 0o444)
        target = _LOAD_TARGET.format(**ACCOUNTS["admin"])
        _write(self.files / "load" / "target.toml", target, 0o444)

    def _write_observability(self) -> None:
        from system.observability.__main__ import SERVICES as SCRAPED
        from system.observability.__main__ import fill
        from system.stack.ports import STANDARD

        targets = {name: f"{name}:{STANDARD[name]}" for name in SCRAPED}
        fill(
            self.files / "observability",
            targets | {"rabbitmq_metrics": "rabbitmq:15692"},
            prometheus="prometheus:9090",
            dashboards_folder="/etc/grafana/dashboards",
        )


def compose_command() -> list[str]:
    """`docker compose`, or the program of the same name that the development packages bring.

    Raises:
        StackError: neither is there.
    """
    beside = Path(sys.executable).parent / "docker-compose"
    if beside.exists():
        return [str(beside)]
    docker = shutil.which("docker")
    if (
        docker
        and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        return [docker, "compose"]
    raise StackError("no docker compose; `make setup` brings one (.venv/bin/docker-compose)")


def _contract_ports(public: Mapping[str, int]) -> dict[str, int]:
    from system.stack.ports import STANDARD

    return {**STANDARD, **public}


def _quoted(value: str) -> str:
    """A value for an env file, taken as it stands."""
    if "'" in value or "\n" in value:
        raise ValueError("a value for the env file holds ' or a line end")
    return f"'{value}'"


def _write(path: Path, text: str, mode: int) -> None:
    """Fill a file, the old one if there is one: a bind mount follows the file, not the name."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.parent.chmod(0o700 if mode == 0o600 else 0o755)
    if path.exists():
        path.chmod(0o600)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    path.chmod(mode)
