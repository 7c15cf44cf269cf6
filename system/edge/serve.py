"""Runs nginx for a container; its configuration follows the gateways that there are.

A container engine gives a name as many addresses as the service has members, and others after a
restart. nginx resolves names once, so this looks them up every half second, renders again when
they have changed, and has nginx reload, which breaks no request.
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
from system.edge.render import EdgeSettings, render

_LOOK_SECONDS = 0.5
_NOBODY = "127.0.0.1:1"  # refuses at once, so that clients get their 502

Lookup = Callable[[str], list[str]]


def addresses(name: str) -> list[str]:
    """All IPv4 addresses of a host, sorted; none when it is not known at the moment."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


def members(
    gateways: Iterable[str], before: tuple[str, ...], lookup: Lookup = addresses
) -> tuple[str, ...]:
    """The ``address:port`` of every gateway there is.

    Args:
        gateways: ``host:port``, where a host may have several addresses.
        before: the answer of the last time; it stands while no name has an address, so that a
            gateway which comes back at its old address costs no reload.
    """
    found = []
    for gateway in gateways:
        host, _, port = gateway.rpartition(":")
        found += [f"{address}:{port}" for address in lookup(host)]
    return tuple(dict.fromkeys(found)) or before or (_NOBODY,)


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
    now: tuple[str, ...] = ()
    if fixed is None:
        now = members(settings.gateways, now)
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
        found = members(settings.gateways, now)
        if found != now:
            print(f"gateways: {', '.join(found)}", file=sys.stderr, flush=True)
            now = found
            _write(configuration, settings, now)
            child.send_signal(signal.SIGHUP)


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
