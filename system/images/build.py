"""Builds the images of the platform, and stand-ins of the official images where no registry is.

Every image is named after what it is made of, so building again does nothing, at once. Stand-ins
come from distribution packages (mmdebstrap); see standins/Dockerfile for what they promise.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from system.stack.errors import NotInstalled, StackError
from system.stack.programs import which

PROJECT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
OURS: Final = ("application", "edge", "relay")
EXTRA: Final = ("load",)
SERVERS: Final = ("postgres", "rabbitmq", "redis", "nginx")

FAULTS: Final = "faults"

# The variables of compose.yaml by image; of faults only the stack makes containers.
VARIABLES: Final[Mapping[str, str]] = {
    **{name: f"{name.upper()}_IMAGE" for name in ("postgres", "rabbitmq", "redis")},
    **{name: f"{name.upper()}_IMAGE" for name in (*OURS, *EXTRA, FAULTS)},
}

_SUITE: Final = "bookworm"
_SOURCES: Final = (
    f"deb http://deb.debian.org/debian {_SUITE} main",
    f"deb http://deb.debian.org/debian-security {_SUITE}-security main",
)
# What the packages' own scripts may need goes in a hook at the end: documentation (excluded paths
# break packages that look for theirs) and all of Perl but its base.
_NOT_NEEDED: Final = (
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "var/cache/*",
    "var/log/*.log",
    "var/log/apt/*",
    "usr/share/perl*",
    "usr/lib/*/perl/5*",
    "usr/lib/*/libperl*",
)
# PostgreSQL's compiler of queries (jit is off) is a third of the servers.
_NOT_NEEDED_BY_SERVERS: Final = (
    "usr/lib/*/libLLVM*",
    "usr/lib/*/libz3*",
    "usr/lib/postgresql/*/lib/bitcode",
    "usr/lib/postgresql/*/lib/llvmjit*",
    "etc/nginx/sites-enabled/*",
)
_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_IN_CONTEXT: Final = ("pyproject.toml", "uv.lock", "system", "harness", "loadtests")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """A root file system from distribution packages.

    Attributes:
        name: of the image, below `seatrial/`.
        packages: what it holds besides the essential ones.
        removed: patterns of what nobody uses.
    """

    name: str
    packages: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Options of mmdebstrap."""
        removals = " ".join(f'"$1"/{pattern}' for pattern in self.removed)
        return (
            "--quiet",
            "--variant=essential",
            f"--include={','.join(self.packages)}",
            # A package must neither make a cluster nor find its documents' folders gone.
            '--essential-hook=mkdir -p "$1"/etc/postgresql-common',
            "--essential-hook=echo create_main_cluster = false"
            ' >"$1"/etc/postgresql-common/createcluster.conf',
            f"--customize-hook=rm -rf {removals}",
        )

    @property
    def image(self) -> str:
        """Its name, which changes with its content."""
        return f"seatrial/{self.name}:{_key(*self.arguments, *_SOURCES)}"


PYTHON_BASE: Final = Base(
    "base-python",
    ("python3", "python3-venv", "libpcre2-8-0", "libstdc++6", "ca-certificates"),
    _NOT_NEEDED,
)
SERVERS_BASE: Final = Base(
    "base-servers",
    ("postgresql", "rabbitmq-server", "redis-server", "nginx-light", "libnginx-mod-stream"),
    _NOT_NEEDED + _NOT_NEEDED_BY_SERVERS,
)
FAULTS_BASE: Final = Base("base-faults", ("python3", "iptables"), _NOT_NEEDED)


def docker() -> str:
    """The engine's own client; another one on the PATH may be of another version.

    Raises:
        NotInstalled: there is none.
    """
    found = Path("/usr/bin/docker")
    program = found if found.exists() else which("docker")
    if program is None:
        raise NotInstalled("docker is not installed; `bin/install containers` installs it")
    return str(program)


class Images:
    """The images of this project on one engine.

    Args:
        docker_host: the engine; the one of the environment unless given.
        official: bases are the official images, which a registry must give.
        say: takes progress, a line at a time.
    """

    def __init__(
        self, docker_host: str | None = None, *, official: bool = False, say: Say = print
    ) -> None:
        self._environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if docker_host:
            self._environment["DOCKER_HOST"] = docker_host
        self._official = official
        self._say = say
        self._began = time.monotonic()
        standins = _files_key([HERE / "standins"])
        self._standin_names = {
            name: f"seatrial/{name}:{_key(base.image, standins)}"
            for name, base in {
                "python": PYTHON_BASE,
                FAULTS: FAULTS_BASE,
                **dict.fromkeys(SERVERS, SERVERS_BASE),
            }.items()
        }
        bases = () if official else (self._standin_names["python"], self._standin_names["nginx"])
        content = _key(
            _files_key(PROJECT / name for name in _IN_CONTEXT),
            (HERE / "Dockerfile").read_text(encoding="utf-8"),
            *bases,
        )
        self._our_names = {name: f"seatrial/{name}:{content}" for name in (*OURS, *EXTRA)}
        if official:
            text = (HERE / "Dockerfile").read_text(encoding="utf-8")
            self._our_names[FAULTS] = f"seatrial/{FAULTS}:{_key(text)}"

    def names(self) -> dict[str, str]:
        """Variable of compose.yaml and image name, of every image that this project builds."""
        standins = {} if self._official else self._standin_names
        return {
            variable: (standins | self._our_names)[name]
            for name, variable in VARIABLES.items()
            if name in standins or name in self._our_names
        }

    def built(self) -> dict[str, str]:
        """Those of `names` that the engine has now.

        Raises:
            StackError: no engine answers.
        """
        names = self.names()
        there = self._there(names.values())
        return {variable: image for variable, image in names.items() if image in there}

    def build(self, *extra: str) -> dict[str, str]:
        """Build what is missing.

        Args:
            extra: more than the platform needs: ``load``.

        Returns:
            variable of compose.yaml and image name, of all that are there now.

        Raises:
            StackError: a step failed; shows the end of what it said.
        """
        wanted = [self._our_names[name] for name in (*self._ours(), *extra)]
        if not self._official:
            wanted += self._standin_names.values()
        bases = (PYTHON_BASE, SERVERS_BASE, FAULTS_BASE)
        there = self._there([*wanted, *(base.image for base in bases)])
        if not set(wanted) <= there:
            with ThreadPoolExecutor(4) as pool:
                self._build(pool, there, extra)
        names = self.built()
        self._say(f"{len(names)} images are there after {time.monotonic() - self._began:.1f} s")
        return names

    def _build(self, pool: ThreadPoolExecutor, there: set[str], extra: Iterable[str]) -> None:
        options: list[str] = []
        if not self._official:
            servers = pool.submit(self._make_base, SERVERS_BASE, there)
            faults = pool.submit(self._make_base, FAULTS_BASE, there)
            self._make_base(PYTHON_BASE, there)
            self._make_standin("python", there)
            options = [
                f"--build-arg=PYTHON_IMAGE={self._standin_names['python']}",
                f"--build-arg=NGINX_IMAGE={self._standin_names['nginx']}",
            ]
            # Packages of ours are fetched while the servers' are.
            packages = pool.submit(self._make_ours, "platform-packages", None, options[:1], there)
            _all((servers, faults))
            _all(pool.submit(self._make_standin, name, there) for name in (*SERVERS, FAULTS))
            packages.result()
        for name in (*self._ours(), *extra):  # each stands on layers of the one before
            self._make_ours(name, self._our_names[name], options, there)

    def _ours(self) -> tuple[str, ...]:
        """What the Dockerfile makes for the platform; without a registry faults is a stand-in."""
        return (*OURS, FAULTS) if self._official else OURS

    def _make_base(self, base: Base, there: set[str]) -> None:
        if base.image in there:
            return
        began = time.monotonic()
        program = which("mmdebstrap")
        if program is None:
            raise NotInstalled("mmdebstrap is not installed; `bin/install containers` does it")
        self._say(f"  {base.name:<14} packages of {_SUITE}: {', '.join(base.packages)}")
        with subprocess.Popen(
            [str(program), *base.arguments, _SUITE, "-", *_SOURCES],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as making:
            imported = subprocess.run(
                [docker(), "import", "-"],
                stdin=making.stdout,
                capture_output=True,
                text=True,
                env=self._environment,
                check=False,
            )
            assert making.stderr is not None
            said = making.stderr.read().decode(errors="replace")
        image = imported.stdout.strip()
        if making.returncode != 0 or imported.returncode != 0:
            if image:  # half of a file system
                self._run("rmi", image)
            raise StackError(f"{base.name} cannot be made:\n{_end(said + imported.stderr)}")
        self._run("tag", image, base.image)
        self._done(base.name, began)

    def _make_standin(self, name: str, there: set[str]) -> None:
        image = self._standin_names[name]
        if image in there:
            return
        began = time.monotonic()
        self._run(
            "build",
            f"--build-arg=PYTHON_BASE_IMAGE={PYTHON_BASE.image}",
            f"--build-arg=SERVERS_IMAGE={SERVERS_BASE.image}",
            f"--build-arg=FAULTS_BASE_IMAGE={FAULTS_BASE.image}",
            f"--target={name}",
            f"--tag={image}",
            str(HERE / "standins"),
        )
        self._done(name, began)

    def _make_ours(
        self, target: str, image: str | None, options: Iterable[str], there: set[str]
    ) -> None:
        if image in there:
            return
        began = time.monotonic()
        secret = [f"--secret=id=ca,src={_CA}"] if _CA.exists() else []
        self._run(
            "build",
            f"--file={HERE / 'Dockerfile'}",
            f"--target={target}",
            *([f"--tag={image}"] if image else []),
            *secret,
            *options,
            str(PROJECT),
        )
        self._done(target, began)

    def _done(self, name: str, began: float) -> None:
        self._say(f"  {name:<18} built  {time.monotonic() - began:5.1f} s")

    def _there(self, images: Iterable[str]) -> set[str]:
        listed = self._run("image", "ls", "--format={{.Repository}}:{{.Tag}}", "seatrial/*")
        return set(images) & set(listed.split())

    def _run(self, *arguments: str) -> str:
        answer = subprocess.run(
            [docker(), *arguments],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if answer.returncode != 0:
            raise StackError(f"docker {arguments[0]} failed:\n{_end(answer.stderr)}")
        return answer.stdout


def _all(jobs: Iterable[Future[None]]) -> None:
    for job in list(jobs):
        job.result()


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _files_key(roots: Iterable[Path]) -> str:
    """A digest of files by name and content, of those that go into an image."""
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and not {"tests", "__pycache__"} & set(path.parts):
                digest.update(f"{path.relative_to(HERE.parents[1])}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _end(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
