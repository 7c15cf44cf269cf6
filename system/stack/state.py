"""The state folder of a stack: what was started, with which settings, and who may touch it now."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from system.stack import process
from system.stack.errors import StackBusy, StackNotThere, UnknownPart, UnsafeFolder
from system.stack.launch import Launch
from system.stack.parts import OPTIONAL, PARTS, number_of, part_of
from system.stack.process import Process

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = 1
MARKER = "SEATRIAL_STATE"  # environment variable of every process of a stack


def not_there(folder: Path, name: str) -> StackNotThere:
    """The error for a stack that was never started; says how to start it."""
    option = "" if name == "default" else f" --stack {name}"
    return StackNotThere(
        f"stack {name!r} is not there, or did not come up ({folder}); "
        f"start it with `python -m system{option} up`"
    )


class StateFolder:
    """/tmp/seatrial-<uid>-<hash>/: one for each project folder and stack name.

    It lies in /tmp because PostgreSQL's own user must be able to enter it, which a clone below
    /root does not allow. Others may pass through (0711) but neither list nor read.
    """

    def __init__(self, name: str = "default", *, project: Path = PROJECT) -> None:
        self.name = name
        self.project = project
        digest = hashlib.sha256(f"{project}\0{name}".encode()).hexdigest()[:10]
        self.path = Path(f"/tmp/seatrial-{os.getuid()}-{digest}")
        self.logs = self.path / "logs"
        self.target_file = self.path / "target.toml"
        self._document = self.path / "stack.json"
        self._boot = self.path / "boot"

    @property
    def marker(self) -> str:
        """``NAME=value`` in the environment of every process of this stack."""
        return f"{MARKER}={self.path}"

    def exists(self) -> bool:
        """True when the folder is there, however far its stack got."""
        return self.path.is_dir()

    def create(self) -> None:
        """Make the folder; it must not exist with other contents than a lock.

        Raises:
            UnsafeFolder: the place is a link or belongs to somebody else.
        """
        self._secure()
        for folder, mode in ((self.logs, 0o711), (self.path / "run", 0o700)):
            folder.mkdir(mode=mode, exist_ok=True)
            folder.chmod(mode)
        self._write(self._boot, boot_id())

    def remove(self) -> None:
        """Delete the folder and the pointer to it; the lock file goes last."""
        if not self.path.is_dir():
            return
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != "lock":
                entry.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # never written, or others' pointers lie beside it
            self.pointer.unlink()
            self.pointer.parent.rmdir()

    @property
    def pointer(self) -> Path:
        """File in the project that holds this folder's path, for people."""
        return self.project / ".seatrial" / "stacks" / self.name

    def point(self) -> None:
        """Write the pointer, if the project folder can be written."""
        with contextlib.suppress(OSError):
            self.pointer.parent.mkdir(parents=True, exist_ok=True)
            self.pointer.write_text(f"{self.path}\n", encoding="utf-8")

    @classmethod
    def all_of_project(cls, project: Path = PROJECT) -> Iterator[StateFolder]:
        """The state folders of all stacks of a project that are there."""
        names = {"default"}
        with contextlib.suppress(OSError):
            names.update(path.name for path in (project / ".seatrial" / "stacks").iterdir())
        for folder in Path("/tmp").glob(f"seatrial-{os.getuid()}-*"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                document = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
                if document["project"] == str(project):
                    names.add(document["name"])
        for name in sorted(names):
            state = cls(name, project=project)
            if state.exists():
                yield state

    # What was decided: ports, credentials, how far it got.

    def read(self) -> dict[str, Any]:
        """The stack's document.

        Raises:
            StackNotThere: it was never started, or has been ended.
        """
        try:
            document: dict[str, Any] = json.loads(self._document.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise not_there(self.path, self.name) from error
        return document

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the stack's document in one step; readable by the owner only."""
        self._write(self._document, json.dumps({"schema": SCHEMA, **document}, indent=1))

    def mark(self, phase: str) -> None:
        """Note how far the stack got, starting, up or failed, if it got as far as a document."""
        with contextlib.suppress(StackNotThere):
            self.write({**self.read(), "phase": phase})

    def launch_of(self, part: str) -> Launch:
        """How a part is started.

        Raises:
            StackNotThere: nothing of that name was ever started.
        """
        try:
            return Launch.from_json((self.path / "run" / f"{part}.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise not_there(self.path, self.name) from error

    def plain_launch_of(self, part: str) -> Launch:
        """How a part is started when nothing overrides it."""
        return Launch.from_json((self.path / "run" / f"{part}.plain.json").read_text("utf-8"))

    def keep_plain_launch(self, launch: Launch) -> None:
        """Note how a part is started when nothing overrides it."""
        self._write(self.path / "run" / f"{launch.part}.plain.json", launch.to_json())

    def keep_launch(self, launch: Launch) -> None:
        """Note how a part is started, before it is."""
        self._write(self.path / "run" / f"{launch.part}.json", launch.to_json())

    def rename(self, member: str, name: str) -> None:
        """Call a member otherwise, when the others of its part come or go; it runs on as it is.

        How it is started is to be noted again, since that holds the name.
        """
        for folder in (self.path / "run", self.logs):
            for kind in ("json", "plain.json", "pid", "log"):
                with contextlib.suppress(FileNotFoundError):
                    (folder / f"{member}.{kind}").rename(folder / f"{name}.{kind}")

    def forget(self, member: str) -> None:
        """A member that has ended does not come back; its log stays."""
        for path in (self.path / "run").glob(f"{member}.*"):
            path.unlink()

    def launches(self) -> list[str]:
        """The members that were to be started, in the parts' order."""
        order = {part: place for place, part in enumerate((*PARTS, *OPTIONAL))}
        found = (path.name.removesuffix(".json") for path in (self.path / "run").glob("*.json"))
        known = [member for member in found if part_of(member) in order]
        return sorted(known, key=lambda member: (order[part_of(member)], number_of(member)))

    def members_of(self, name: str) -> list[str]:
        """The members that a name stands for: all of a part, or one.

        Raises:
            UnknownPart: neither a part nor a member of this stack has that name.
            StackNotThere: nothing of that name was ever started.
        """
        launched = self.launches()
        members = [member for member in launched if name in (member, part_of(member))]
        if members:
            return members
        if part_of(name) not in (*PARTS, *OPTIONAL):
            raise UnknownPart(f"there is no part {name!r}; the parts are {', '.join(PARTS)}")
        others = [member for member in launched if part_of(member) == part_of(name)]
        if others:
            raise UnknownPart(f"there is no {name!r}; {part_of(name)} runs as {', '.join(others)}")
        raise not_there(self.path, self.name)

    # What runs.

    def pid_file(self, part: str) -> Path:
        """Where the launcher notes the part's pid and start time."""
        return self.path / "run" / f"{part}.pid"

    def process_of(self, part: str) -> Process | None:
        """The part's process while it runs; None when it does not."""
        found = process.recorded(self.pid_file(part))
        if found is None or self._read_boot() != boot_id() or not found.alive():
            return None
        return found

    def log_of(self, part: str) -> Path:
        """Where the part's output goes."""
        return self.logs / f"{part}.log"

    # Who may touch it.

    @contextlib.contextmanager
    def held(self, *, alone: bool, seconds: float = 20.0) -> Iterator[int]:
        """Hold the stack's lock: alone for up and down, shared for acts on single parts.

        Yields:
            the lock's descriptor, to be handed to launchers.

        Raises:
            StackBusy: another command did not let go within ``seconds``.
        """
        self._secure()
        with self._locked(self.path / "lock", alone, seconds) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def part_held(self, part: str, seconds: float = 60.0) -> Iterator[int]:
        """Hold one part, so that acts on it come one after the other.

        Raises:
            StackBusy: another command did not let go within ``seconds``.
        """
        with self._locked(self.path / "run" / f"{part}.lock", True, seconds) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _locked(self, path: Path, alone: bool, seconds: float) -> Iterator[int]:
        mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        deadline = time.monotonic() + seconds
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
                if _same_file(descriptor, path):  # not removed by a `down` meanwhile
                    break
                os.close(descriptor)
                if not self.path.is_dir():
                    if not alone:
                        raise not_there(self.path, self.name)
                    self._secure()
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() > deadline:
                    raise StackBusy(
                        f"another command works on stack {self.name!r} (it holds {path}) and did "
                        f"not end within {seconds:.0f} s; wait for it or end it, then try again"
                    ) from None
                time.sleep(0.05)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _secure(self) -> None:
        """Make the folder itself, and make sure that it is ours."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o711)
        facts = self.path.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise UnsafeFolder(
                f"{self.path} is not a folder of user {os.getuid()}; expected to be free or ours. "
                "Find out who put it there, remove it, and try again"
            )
        self.path.chmod(0o711)

    def _read_boot(self) -> str:
        try:
            return self._boot.read_text(encoding="utf-8")
        except OSError:
            return ""

    @staticmethod
    def _write(path: Path, text: str) -> None:
        scratch = path.with_name(path.name + f".{os.getpid()}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        scratch.replace(path)


def boot_id() -> str:
    """Identity of this boot of the machine; start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
