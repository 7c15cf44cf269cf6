"""Every kind of edge that settings can ask for, each shown to nginx itself."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from system.edge import certificates
from system.edge.render import EdgeSettings, render

# What differs from the plain development edge.
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "development": {"api_docs": True},
    "production": {
        "public_origin": "https://pay.example",
        "hosts": ("pay.example", "www.pay.example"),
        "sentry_origin": "https://sentry.example",
        "exempt": ("10.1.2.3", "2001:db8::/32"),
    },
    "reference stack": {
        "exempt": ("127.0.0.2", "127.0.2.0/24"),
        "source_address": "127.0.0.250",
        "api_docs": True,
    },
    "several gateways": {"gateways": ("127.0.0.1:3000", "127.0.0.1:3010", "127.0.0.2:3000")},
    "IPv4 only": {"listen": ("127.0.0.1",)},
    "IPv6 only": {"listen": ("[::1]",)},
    "API description off": {"api_docs": False},
    "stapling": {"stapling_resolver": "127.0.0.1"},
    "daemon with two workers": {"daemon": True, "workers": 2},
    "started by root": {"user": "www-data"},
    "started by an ordinary user": {"user": None},
}


def plain(folder: Path, http_port: int = 18080, https_port: int = 18443) -> EdgeSettings:
    """The development edge with everything in one folder."""
    made = certificates.ensure(folder / "tls")
    static_root = folder / "static"
    static_root.mkdir(exist_ok=True)
    return EdgeSettings(
        http_port=http_port,
        https_port=https_port,
        public_origin=f"https://localhost:{https_port}",
        certificate_path=str(made.certificate),
        key_path=str(made.key),
        static_root=str(static_root),
        temp_folder=str(folder),
        pid_path=str(folder / "nginx.pid"),
        access_log=str(folder / "access.log"),
        error_log=str(folder / "error.log"),
    )


def check() -> Iterator[tuple[str, str]]:
    """Have ``nginx -t`` look at each variant: its name, and the complaint or nothing."""
    for name, changes in VARIANTS.items():
        with tempfile.TemporaryDirectory(prefix="seatrial-edge-") as temporary:
            folder = Path(temporary)
            folder.chmod(0o755)  # workers under another account pass through it
            if changes.get("stapling_resolver"):
                certificates.ensure(folder / "tls", ocsp="http://127.0.0.1:1/")
            configuration = folder / "nginx.conf"
            configuration.write_text(render(replace(plain(folder), **changes)), encoding="utf-8")
            account = None
            if name == "started by an ordinary user" and os.getuid() == 0:
                account = "nobody"
                _hand_over(folder, account)
            yield name, complaint(configuration, account)


def complaint(configuration: Path, account: str | None = None) -> str:
    """What nginx says against a configuration, warnings included; empty when it takes it."""
    tested = subprocess.run(
        ["nginx", "-t", "-q", "-c", str(configuration), "-e", "stderr"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user=account,
    )
    said = tested.stderr.strip()
    if tested.returncode and not said:
        return f"nginx -t ended with {tested.returncode} and said nothing"
    return said


def _hand_over(folder: Path, account: str) -> None:
    entry = pwd.getpwnam(account)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)
