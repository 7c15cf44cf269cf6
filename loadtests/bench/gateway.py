"""CPU per small proxied request: the gateway against nginx's ``proxy_pass`` alone.

Both pass the same request to the same service, in turn, from the same generator; nginx checks no
token, so what is compared is the gateway's whole work with the least a proxy can do. The goal is
at most 8 times.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from harness.probe import CouldNotObserve, wait_until
from harness.target import Target
from loadtests.bench import usage
from loadtests.engine.measure import measure
from loadtests.engine.plan import Plan, Request, Schedule
from loadtests.workloads.population import Member, exempt_addresses, settle

RATE, SECONDS, ROUNDS = 200.0, 8.0, 5
GOAL = 8.0

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{ server {upstream}; keepalive 64; keepalive_timeout 2s; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def run(target: Target) -> None:
    """Measure both in turn and print the median of the ratios."""
    for part in ("gateway", "auth"):
        if part not in target.services:
            raise CouldNotObserve(f"the target file has no [services.{part}]")
    people = settle(target, prefix="bench-gateway", users=2, payments_each=0).members
    gateway, auth = target.services["gateway"].url, target.services["auth"].url
    addresses = exempt_addresses(target)
    costs: dict[str, list[float]] = {"gateway": [], "nginx": []}
    with tempfile.TemporaryDirectory() as name, _nginx(Path(name), auth) as (port, pids):
        for _ in range(ROUNDS):
            before = usage.cpu_seconds(gateway)
            sent = _load(gateway, "/api/auth/me", people[0], addresses, Path(name))
            costs["gateway"].append((usage.cpu_seconds(gateway) - before) / sent)
            before = usage.cpu_seconds_of(pids)
            sent = _load(f"http://127.0.0.1:{port}", "/auth/me", people[0], addresses, Path(name))
            costs["nginx"].append((usage.cpu_seconds_of(pids) - before) / sent)
    for part, found in costs.items():
        print(
            f"{part:<8} {statistics.median(found) * 1e6:7.0f} µs CPU a request "
            f"({min(found) * 1e6:.0f} – {max(found) * 1e6:.0f}, {ROUNDS} rounds at {RATE:g}/s)"
        )
    ratios = [a / b for a, b in zip(costs["gateway"], costs["nginx"], strict=True) if b > 0]
    print(
        f"ratio    {statistics.median(ratios):7.2f} ({min(ratios):.2f} – {max(ratios):.2f}), "
        f"goal at most {GOAL:g}"
    )


def _load(origin: str, path: str, who: Member, addresses: tuple[str, ...], folder: Path) -> int:
    """Ask at the bench's rate; how many were answered."""
    request = Request(
        method="GET",
        path=path,
        group="me",
        headers=(("Authorization", f"Bearer {who.access_token}"),),
        expect_body=who.user_id,
    )
    plan = Plan(
        origin=origin,
        ca="",
        addresses=addresses,
        schedule=Schedule(rate=RATE, seconds=SECONDS),
        requests=(request,),
        connections=8,
    )
    measured = measure(plan, folder, "bench")
    if measured.errors():
        raise CouldNotObserve(f"{origin}{path}: statuses {dict(Counter(measured.status.tolist()))}")
    return len(measured)


@contextlib.contextmanager
def _nginx(folder: Path, upstream: str) -> Iterator[tuple[int, list[int]]]:
    """A bare nginx in front of a service; its port and its processes."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise CouldNotObserve("nginx is not installed; the gateway is compared with it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder.chmod(0o755)
    configuration = folder / "nginx.conf"
    place = urlsplit(upstream)
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, upstream=f"{place.hostname}:{place.port}", port=port)
    )
    with subprocess.Popen([program, "-c", str(configuration), "-e", "stderr"]) as nginx:
        try:
            wait_until(lambda: _answers(port), seconds=10, what="nginx to listen")
            children = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text()
            yield port, [nginx.pid, *map(int, children.split())]
        finally:
            nginx.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
