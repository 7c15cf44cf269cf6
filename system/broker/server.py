"""Describes one private RabbitMQ node: its files, its environment and its command line."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).with_name("plugins")
_SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"))

# epmd is started as a child that dies with the node (setpriv --pdeathsig), and before the node:
# a node that finds no epmd starts a daemon of its own, which nobody would end. `exec` makes the
# process that was started become the Erlang machine itself, so that one pid stops, pauses and
# resumes the broker.
_LAUNCH = """\
set -e
setpriv --pdeathsig KILL epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 &
tries=0
until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -gt 100 ]; then
    echo "epmd does not answer on port $ERL_EPMD_PORT after 5 s; is the port taken?" >&2
    exit 1
  fi
  sleep 0.05
done
exec "$0"
"""


class ServerNotInstalled(Exception):
    """RabbitMQ's server, epmd or setpriv is not on this machine; the message says what to do."""


@dataclass(frozen=True)
class Ports:
    """The ports of a node, all on 127.0.0.1.

    Attributes:
        amqp: AMQP 0-9-1.
        management: HTTP API and web page of the management plugin.
        metrics: Prometheus metrics.
        distribution: Erlang distribution (`rabbitmqctl` connects to it).
        epmd: the node's own Erlang port mapper.
    """

    amqp: int
    management: int
    metrics: int
    distribution: int
    epmd: int


@dataclass(frozen=True)
class Server:
    """What is needed to start a node: run `command` with exactly `environment` in `folder`.

    The process that results is the broker; SIGTERM stops it gracefully. It logs to stdout.

    Attributes:
        command: argument vector.
        environment: complete environment.
        folder: folder that holds configuration, data and cookie.
        ready_url: answers 200 (see `ready`) when the broker takes connections.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ports: Ports

    def ready(self) -> bool:
        """Whether the node has finished its start, definitions and listeners included."""
        return _running(self.ports)


def executable() -> Path:
    """RabbitMQ's own start script, past the distribution's wrapper that insists on its user.

    Raises:
        ServerNotInstalled: with the command that installs what is missing.
    """
    for program in ("epmd", "setpriv"):
        if shutil.which(program) is None:
            raise ServerNotInstalled(
                f"seen: no program {program}; expected it on PATH; "
                "install: apt-get install rabbitmq-server util-linux"
            )
    for folder in _SCRIPTS:
        script = folder / "rabbitmq-server"
        if script.exists():
            return script
    raise ServerNotInstalled(
        f"seen: no rabbitmq-server in {', '.join(str(folder) for folder in _SCRIPTS)}; "
        "install: apt-get install rabbitmq-server"
    )


def prepare(folder: Path, ports: Ports, definitions: Mapping[str, Any]) -> Server:
    """Write the files of a node below `folder` and say how to start it.

    Data of an earlier start in the same folder is kept, so preparing again and starting is a
    restart; `definitions` (see system/broker/definitions.py) are imported at every start.

    Arguments:
        folder: absolute; made if missing, readable by its owner only.
        ports: free ports.
        definitions: RabbitMQ's definitions document.

    Raises:
        ServerNotInstalled: RabbitMQ is not on this machine.
    """
    script = executable()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    definitions_file = folder / "definitions.json"
    definitions_file.touch(mode=0o600)
    definitions_file.write_text(json.dumps(definitions, indent=1))
    plugins = folder / "enabled_plugins"
    plugins.write_bytes(PLUGINS.read_bytes())
    configuration = folder / "rabbitmq.conf"
    configuration.write_text(configuration_text(ports, definitions_file))
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(20).upper())
        cookie.chmod(0o400)  # Erlang refuses a cookie that others may read
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        # The start script then replaces itself by the Erlang machine instead of watching it.
        "RUNNING_UNDER_SYSTEMD": "true",
        "RABBITMQ_NODENAME": f"seatrial-{ports.amqp}@localhost",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # the machine's own node is none of our business
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+B i -kernel inet_dist_use_interface {127,0,0,1}"  # SIGINT is the terminal's, not ours
        ),
    }
    return Server(("/bin/sh", "-c", _LAUNCH, str(script)), environment, folder, ports)


def configuration_text(ports: Ports, definitions_file: Path) -> str:
    """The text of rabbitmq.conf for a node on loopback."""
    return f"""\
listeners.tcp.1 = 127.0.0.1:{ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {ports.management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {ports.metrics}
load_definitions = {definitions_file}
loopback_users = none
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 50MB
"""


def _running(ports: Ports) -> bool:
    # The metrics listener opens when the plugins start, which is after the AMQP listener only
    # by order of plugins; the health check asks the node itself and needs no credentials.
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{ports.metrics}/metrics", timeout=2
        ) as answer:
            if answer.status != 200:
                return False
    except (urllib.error.URLError, OSError):
        return False
    import socket

    try:
        with socket.create_connection(("127.0.0.1", ports.amqp), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
