"""Runs nginx for a container; its configuration follows the gateways that there are.

A container engine gives a name as many addresses as the service has members, and others after a
restart. nginx resolves names once, so this looks them up every half second, renders again when
they have changed, and has nginx reload, which breaks no request in flight. A new address counts at
once. One that is gone counts after a while, since a member that restarts comes back to it, and a
reload ends connections that clients are about to use (docs/decisions/0018-replicas.md).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType

from system.edge.environment import settings_from
from system.edge.reload import reload
from system.edge.render import EdgeSettings, render

_LOOK_SECONDS = 0.5
_GONE_SECONDS = 3.0  # a container has its address back in less than one
NOT_FOLLOWED = " (nginx has not followed)"  # at the end of the line that names the gateways
_NOBODY = "127.0.0.1:1"  # refuses at once, so that clients get their 502

Lookup = Callable[[str], list[str]]


def addresses(name: str) -> list[str]:
    """All IPv4 addresses of a host, sorted; none when it is not known at the moment."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


class Members:
    """The ``address:port`` of every gateway there is.

    Args:
        gateways: ``host:port``, where a host may have several addresses.
        lookup: gives a host's addresses.
        clock: seconds.
    """

    def __init__(
        self,
        gateways: Iterable[str],
        lookup: Lookup = addresses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateways = tuple(gateways)
        self._lookup = lookup
        self._clock = clock
        self._seen: dict[str, float] = {}

    def look(self) -> tuple[str, ...]:
        """Who is to be asked now: those who have an address, and those who had one a moment ago.

        While no name has an address the last ones stand, so that a single gateway which comes
        back at its old address costs no reload. Where others are there for all that are gone,
        they have moved and do not come back.
        """
        now = self._clock()
        places = [gateway.rpartition(":") for gateway in self._gateways]
        found = {f"{address}:{port}" for host, _, port in places for address in self._lookup(host)}
        if found:
            missed = self._seen if len(found) < len(self._seen) else {}
            seen = {**missed, **dict.fromkeys(found, now)}
            self._seen = {place: at for place, at in seen.items() if now - at < _GONE_SECONDS}
        return tuple(sorted(self._seen)) or (_NOBODY,)


def serve(
    environ: Mapping[str, str], nginx: str, state: Path, static: Path, fixed: Path | None = None
) -> int:
    """Run nginx until SIGTERM or its own end; returns nginx's exit code.

    Args:
        environ: R0.13's variables.
        nginx: path of the program.
        state: folder that may be written to.
        static: the built front end.
        fixed: a whole nginx.conf to be used as it stands, instead of a rendered one.

    Raises:
        EdgeSettingsFault: the environment means nothing.
    """
    settings = settings_from(environ, state, static)
    configuration = fixed or state / "nginx.conf"
    members = Members(settings.gateways)
    now: tuple[str, ...] = ()
    if fixed is None:
        now = members.look()
        _write(configuration, settings, now)
    command = [nginx, "-c", str(configuration), "-p", str(state), "-e", "stderr"]
    child = subprocess.Popen(command)

    def leave(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGQUIT)  # R0.11: requests in flight are finished

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, leave)
    while True:
        try:
            return child.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if fixed is not None:
            continue
        found = members.look()
        if found != now:
            now = found
            _write(configuration, settings, now)
            how = "" if reload(child.pid) else NOT_FOLLOWED
            print(f"gateways: {', '.join(now)}{how}", file=sys.stderr, flush=True)


def _write(path: Path, settings: EdgeSettings, gateways: tuple[str, ...]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(render(replace(settings, gateways=gateways)), encoding="utf-8")
    fresh.replace(path)


def main(state: Path, static: Path) -> int:
    """Serve with this process's environment.

    ``EDGE_CONFIGURATION`` names a whole nginx.conf that replaces the rendered one, if it is there.
    """
    given = os.environ.get("EDGE_CONFIGURATION", "")
    fixed = Path(given) if given and Path(given).is_file() else None
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    code = serve(os.environ, os.environ.get("EDGE_NGINX", "nginx"), state, static, fixed)
    print(f"nginx ended with {code} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return code
