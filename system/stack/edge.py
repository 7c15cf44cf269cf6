"""nginx: the edge that system/edge renders, as a child in the foreground, never as root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from system.edge import certificates
from system.edge.page import build
from system.edge.render import EdgeSettings, render
from system.stack import accounts, environment
from system.stack.errors import StackError
from system.stack.launch import Launch, Readiness
from system.stack.programs import path_of, which
from system.stack.state import StateFolder

_PRIVILEGED_BELOW = 1024


def prepare(
    state: StateFolder, ports: Mapping[str, int], transform: Callable[[str], str] | None = None
) -> Launch:
    """Make certificates, pages and nginx.conf, have nginx test it, and say how it is started.

    Args:
        transform: changes the text of nginx.conf; for defects.

    Raises:
        StackError: nginx does not take the configuration; shows what it says.
    """
    folder, access_log = state.path / "edge", state.logs / "edge.access.log"
    account = accounts.account_for("edge")
    folder.mkdir(mode=0o700, exist_ok=True)
    access_log.touch(mode=0o600)
    made = certificates.ensure(state.path / "tls")
    static = folder / "static"
    if not static.exists():
        build(static)
    text = render(_settings(folder, access_log, made, static, ports))
    configuration = folder / "nginx.conf"
    configuration.write_text(transform(text) if transform else text, encoding="utf-8")
    accounts.hand_over(account, [folder, access_log, made.key])
    nginx = [str(path_of("nginx")), "-c", str(configuration), "-p", str(folder), "-e", "stderr"]
    if account is not None and min(ports["edge-http"], ports["edge-https"]) < _PRIVILEGED_BELOW:
        nginx, account = [*_with_low_ports(account), *nginx], None
    _test(nginx, folder, account)
    return Launch(
        part="edge",
        command=tuple(nginx),
        environment={"LANG": "C.UTF-8", "PATH": os.defpath, "TZ": "UTC"},
        folder=folder.name,
        readiness=Readiness("edge", ports["edge-https"]),
        account=account,
    )


def _settings(
    folder: Path,
    access_log: Path,
    made: certificates.Certificates,
    static: Path,
    ports: Mapping[str, int],
) -> EdgeSettings:
    return EdgeSettings(
        http_port=ports["edge-http"],
        https_port=ports["edge-https"],
        public_origin=environment.public_origin(ports),
        certificate_path=str(made.certificate),
        key_path=str(made.key),
        static_root=str(static),
        temp_folder=str(folder),
        pid_path=str(folder / "nginx.pid"),
        access_log=str(access_log),
        gateways=tuple(urlsplit(url).netloc for url in environment.member_urls("gateway", ports)),
        source_address=environment.EDGE_SOURCE,
        listen=("127.0.0.1", "[::1]") if _has_ipv6() else ("127.0.0.1",),
        exempt=environment.EXEMPT,
        api_docs=True,
        stapling_resolver=None,
    )


def _has_ipv6() -> bool:
    return "00000000000000000000000000000001" in _read(Path("/proc/net/if_inet6"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _with_low_ports(account: str) -> list[str]:
    """Root becomes the account and keeps nothing but the right to listen below 1024."""
    capability = "+net_bind_service"
    return [
        str(which("setpriv")),
        f"--reuid={account}",
        f"--regid={account}",
        "--clear-groups",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
    ]


def _test(nginx: list[str], folder: Path, account: str | None) -> None:
    answer = subprocess.run(
        [*nginx, "-t", "-q"],
        capture_output=True,
        text=True,
        cwd=folder,
        user=account,
        group=account,
        extra_groups=[] if account else None,
        check=False,
    )
    if answer.returncode != 0:
        raise StackError(f"nginx does not take {folder}/nginx.conf:\n{answer.stderr.strip()}")
