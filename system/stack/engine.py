"""A container engine of its own, for machines and CI jobs that have none running.

It stands in a folder below /tmp that belongs to the project: socket, images, everything. What it
changes on the machine (packet filter, forwarding, bridges, control groups) is noted before it
starts and put back when it ends, also by a later `down` after the engine was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from system.stack import process
from system.stack.errors import NotInstalled, StackError, UnsafeFolder
from system.stack.process import Process
from system.stack.programs import which
from system.stack.state import PROJECT

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 60.0
_NEEDED: Final = {"dockerd": "docker.io", "iptables": "iptables", "mmdebstrap": "mmdebstrap"}
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGE: Final = re.compile(r"docker0|br-[0-9a-f]{12}")
# Jumps to its chains, its bridges, and what leads a container back to its own published port.
_RULE: Final = re.compile(
    r"-j DOCKER\b|\bdocker0\b|\bbr-[0-9a-f]{12}\b|-s (\S+/32) -d \1 .*-j MASQUERADE"
)
_GROUPS: Final = Path("/sys/fs/cgroup")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Before:
    """The machine before the engine started.

    Attributes:
        policy: of the packet filter's chain FORWARD.
        forwarding: whether the machine forwarded packets, as the kernel writes it.
        bridges: network bridges that somebody else's engine has made.
        groups: control groups called `docker` that were there.
    """

    policy: str
    forwarding: str
    bridges: tuple[str, ...]
    groups: tuple[str, ...]


class Engine:
    """One private dockerd; there is at most one for a project."""

    def __init__(self, *, project: Path = PROJECT, say: Say = print) -> None:
        digest = hashlib.sha256(f"{project}\0engine".encode()).hexdigest()[:10]
        self.folder = Path(f"/tmp/seatrial-engine-{os.getuid()}-{digest}")
        self.socket = self.folder / "docker.sock"
        self.log = self.folder / "dockerd.log"
        self._data, self._exec = self.folder / "data", self.folder / "exec"
        self._pid, self._before = self.folder / "engine.pid", self.folder / "before.json"
        self._say = say

    @property
    def host(self) -> str:
        """What DOCKER_HOST has to be."""
        return f"unix://{self.socket}"

    def running(self) -> Process | None:
        """The engine's process while it lives."""
        found = process.recorded(self._pid)
        return found if found is not None and found.alive() else None

    def up(self) -> None:
        """Start the engine and wait until it answers; nothing to do when it does.

        Raises:
            NotInstalled: a program is missing, or this is not root.
            StackError: another engine has the bridge docker0, or it did not start; shows its log.
        """
        if self.running():
            self._say(f"the engine is up already: {self.folder}")
            return
        _able()
        self._make_folder()
        if self._before.exists():  # a killed one's remains; its notes are the true ones
            self._sweep()
        elif "docker0" in _bridges():
            raise StackError(
                "there is a bridge docker0, so another engine runs or ran here; use that one "
                "(DOCKER_HOST), or end it and `ip link delete docker0`"
            )
        else:
            self._before.write_text(json.dumps(asdict(_look())), encoding="utf-8")
        self._start()
        _iptables("-P", "FORWARD", "ACCEPT")  # containers reach each other and the outside
        self._say(f"the engine is up: {self.folder}")

    def down(self, *, keep_images: bool = False) -> None:
        """End the engine, its containers, networks and volumes, and put the machine back.

        Args:
            keep_images: leave the images in the folder, for a warm start.

        Raises:
            StackError: something of it could not be removed.
        """
        if not self.folder.exists():
            return
        if self.running():
            self._empty()
            self._stop()
        self._sweep()
        if self._before.exists():
            self._put_back(Before(**json.loads(self._before.read_text(encoding="utf-8"))))
            self._before.unlink()
        if keep_images:
            for entry in self.folder.iterdir():
                if entry != self._data:
                    entry.unlink()
        else:
            shutil.rmtree(self.folder)

    def sizes(self) -> str:
        """The engine's own table of what it holds."""
        return self._docker("system", "df")

    # Starting and ending.

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir(mode=0o711)
        facts = self.folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise UnsafeFolder(f"{self.folder} is not a folder of user {os.getuid()}; remove it")

    def _start(self) -> None:
        with self.log.open("wb") as log:
            engine = subprocess.Popen(
                [
                    str(which("dockerd")),
                    f"--host={self.host}",
                    f"--data-root={self._data}",
                    f"--exec-root={self._exec}",
                    f"--pidfile={self.folder / 'dockerd.pid'}",
                    "--ip=127.0.0.1",  # published ports are for this machine
                    "--mtu=1400",  # fits through most tunnels
                    "--userland-proxy=false",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us, not for it
            )
        shutil.copyfile(f"/proc/{engine.pid}/stat", self._pid)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if engine.poll() is not None or time.monotonic() > deadline:
                end = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                self.down(keep_images=True)
                raise StackError(f"the engine did not start:\n{end}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        asked = subprocess.run(
            [_client(), "--host", self.host, "version"], capture_output=True, check=False
        )
        return asked.returncode == 0

    def _empty(self) -> None:
        """Remove containers, then what they held."""
        for listing, removal in (
            (("ps", "-aq"), ("rm", "-f", "-v")),
            (("network", "ls", "-q", "--filter", "type=custom"), ("network", "rm")),
            (("volume", "ls", "-q"), ("volume", "rm", "-f")),
        ):
            found = self._docker(*listing).split()
            if found:
                self._docker(*removal, *found)

    def _stop(self) -> None:
        engine = self.running()
        if engine is None:
            return
        engine.signal(signal.SIGTERM)
        if process.wait_until_ended([engine], _END_SECONDS):
            engine.signal(signal.SIGKILL)

    def _docker(self, *arguments: str) -> str:
        answer = subprocess.run(
            [_client(), "--host", self.host, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise StackError(f"docker {arguments[0]} failed: {answer.stderr.strip()}")
        return answer.stdout

    # What a killed one leaves.

    def _sweep(self) -> None:
        """End processes and mounts of an engine that is gone, and remove its stale files."""
        left = list(self._left())
        for found in left:
            found.signal(signal.SIGKILL)
        process.wait_until_ended(left, 10.0)
        for place in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self._exec, ignore_errors=True)
        for name in ("dockerd.pid", "docker.sock", "engine.pid"):
            (self.folder / name).unlink(missing_ok=True)

    def _left(self) -> Iterator[Process]:
        """The engine's processes, then those in its containers."""
        containers = self._containers()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                groups = set(re.findall(r"[0-9a-f]{64}", (entry / "cgroup").read_text()))
                ours = Path(words[0]).name in (
                    "dockerd",
                    "containerd",
                    "containerd-shim-runc-v2",
                ) and any(str(self.folder) in word for word in words)
                facts = process.read(int(entry.name))
                if facts is not None and (ours or groups & containers):
                    yield facts.process

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        places = [line.split()[1] for line in lines]
        return [place for place in places if place.startswith(f"{self.folder}/")]

    def _put_back(self, before: Before) -> None:
        bridges = [name for name in _bridges() if name not in before.bridges]
        for bridge in bridges:
            subprocess.run(["ip", "link", "delete", bridge], check=False)
        if not before.bridges:  # else the chains are another engine's, too
            for table in ("filter", "nat"):
                _remove_rules(table)
        _iptables("-P", "FORWARD", before.policy)
        _FORWARDING.write_text(before.forwarding)
        for group in _groups():
            if group not in before.groups:
                remove_groups(Path(group))
            else:  # another engine's, too: only those of containers of ours
                for container in self._containers():
                    remove_groups(Path(group) / container)

    def _containers(self) -> set[str]:
        return {path.name for path in (self._data / "containers").glob("*")}


def remove_groups(top: Path) -> None:
    """Remove a control group and those below it; a group with a process in it stays."""
    for path, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)  # noqa: PTH106 - not a folder of files, but a request to the kernel


def left_behind(commands: list[str]) -> list[str]:
    """The deletions that undo the rules and chains of an engine, in their order.

    Args:
        commands: lines of `iptables -S`.
    """
    rules = [line for line in commands if line.startswith("-A ")]
    chains = [line.split()[1] for line in commands if line.startswith("-N DOCKER")]
    ours = [line for line in rules if _RULE.search(line)]
    builtin = [line for line in ours if line.split()[1] not in chains]
    return [
        *(f"-D{line.removeprefix('-A')}" for line in builtin),
        *(f"-F {chain}" for chain in chains),
        *(f"-X {chain}" for chain in chains),
    ]


def _remove_rules(table: str) -> None:
    for line in left_behind(_iptables("-t", table, "-S").splitlines()):
        _iptables("-t", table, *line.split())


def _iptables(*arguments: str) -> str:
    answer = subprocess.run(
        [str(which("iptables")), "--wait", *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise StackError(f"iptables {' '.join(arguments)} failed: {answer.stderr.strip()}")
    return answer.stdout


def _look() -> Before:
    policy = _iptables("-S", "FORWARD").split()[2]
    forwarding = _FORWARDING.read_text(encoding="ascii").strip()
    return Before(policy, forwarding, tuple(_bridges()), tuple(_groups()))


def _bridges() -> list[str]:
    """Bridges that a Docker engine has made, by their names."""
    names = (path.name for path in Path("/sys/class/net").iterdir())
    return sorted(name for name in names if _BRIDGE.fullmatch(name))


def _groups() -> list[str]:
    return [str(path) for pattern in ("docker", "*/docker") for path in _GROUPS.glob(pattern)]


def _client() -> str:
    from system.images.build import docker

    return docker()


def _able() -> None:
    missing = [package for name, package in _NEEDED.items() if which(name) is None]
    if missing:
        raise NotInstalled(
            f"not installed: {', '.join(missing)}; `bin/install containers` installs them"
        )
    if os.getuid() != 0:
        raise NotInstalled("an engine of its own needs root; use one that runs (DOCKER_HOST)")
