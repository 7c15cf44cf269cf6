"""Has compose start a stack's project, in networks that nobody else uses."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import CalledProcessError

from system.stack import compose
from system.stack import docker_engine as engine
from system.stack.errors import StackError

TRIAL_FILE = compose.FILE.with_name("compose.trial.yaml")


def up(project: compose.Project, *profiles: str, service: str = "") -> None:
    """Have testcontainers start the project, or one service of it; nobody waits for it to answer.

    Raises:
        StackError: compose says no; the text is its own.
    """
    from testcontainers.compose import DockerCompose  # takes seconds on a busy machine

    class Compose(DockerCompose):
        """Compose with this project's name, files and profiles."""

        def docker_compose_command(self) -> list[str]:
            return [*project.arguments(*profiles), "-f", str(TRIAL_FILE)]

        compose_command_property = property(docker_compose_command)

    services = [service] if service else None
    try:
        Compose(context=str(compose.FILE.parent), wait=False, services=services).start()
    except CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()[-3000:]
        raise StackError(f"docker compose up ended with {error.returncode}:\n{said}") from error


def up_only(project: compose.Project, parts: Iterable[str]) -> None:
    """Have compose start as many of these as the env file asks for; nobody else is touched.

    Raises:
        StackError: compose says no; the text is its own.
    """
    words = ["up", "--detach", "--no-deps", "--no-recreate", *sorted(parts)]
    answer = subprocess.run(
        [*project.arguments("trial"), "-f", str(TRIAL_FILE), *words],
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        said = answer.stderr.decode("utf-8", "replace").strip()[-3000:]
        raise StackError(f"docker compose up ended with {answer.returncode}:\n{said}")


def free_prefixes() -> tuple[str, str]:
    """The first two numbers of two networks (/16) that neither engine nor machine has a use for."""
    taken = list(_routes()) + [
        ipaddress.ip_network(config["Subnet"])
        for network in engine.networks({})
        for config in (network.get("IPAM") or {}).get("Config") or []
        if config.get("Subnet")
    ]

    def each() -> Iterator[str]:
        for number in range(200, 256):
            network = ipaddress.ip_network(f"10.{number}.0.0/16")
            if not any(network.overlaps(other) for other in taken if other.version == 4):
                yield f"10.{number}"

    found = each()
    try:
        return next(found), next(found)
    except StopIteration:
        raise StackError(
            "no two free networks between 10.200.0.0/16 and 10.255.0.0/16 on the Docker engine; "
            "`docker network prune` removes those that nobody uses"
        ) from None


def _routes() -> Iterator[ipaddress.IPv4Network]:
    """The networks that this machine has routes to, but for the default one."""
    try:
        lines = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        words = line.split()
        place, mask = (int.from_bytes(bytes.fromhex(words[at]), "little") for at in (1, 7))
        if mask:
            yield ipaddress.IPv4Network((place, mask.bit_count()))
