"""Fills the files for Prometheus and Grafana with a stack's ports (R7.15).

`python -m system.observability render --stack default DIRECTORY` writes them for a running stack,
`… render DIRECTORY` for the contract's ports (R0.6).  Then
`prometheus --config.file=DIRECTORY/prometheus.yml` and Grafana with
`GF_PATHS_PROVISIONING=DIRECTORY/grafana/provisioning` are ready.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final

from system.observability import dashboards
from system.stack.errors import StackError
from system.stack.ports import STANDARD
from system.stack.state import StateFolder

HERE: Final = Path(__file__).parent
SERVICES: Final = ("gateway", "auth", "payments", "admin", "profile")
PROMETHEUS_PORT: Final = 9090


def ports_of(stack: str | None) -> dict[str, int]:
    """The ports to scrape: of a running stack, or the contract's when `stack` is None (R0.6).

    Raises:
        StackError: there is no such stack.
    """
    known: Mapping[str, int] = STANDARD
    if stack is not None:
        known = StateFolder(stack).read()["ports"]
    return {name: known[name] for name in SERVICES} | {
        "rabbitmq_metrics": known["rabbitmq-metrics"]
    }


def render(folder: Path, ports: Mapping[str, int], host: str = "127.0.0.1") -> list[Path]:
    """Write all files below `folder`; return their paths."""
    targets = {name: f"{host}:{port}" for name, port in ports.items()}
    dashboards_folder = str(folder.resolve() / "grafana" / "dashboards")
    return fill(folder, targets, f"{host}:{PROMETHEUS_PORT}", dashboards_folder)


def fill(
    folder: Path, targets: Mapping[str, str], prometheus: str, dashboards_folder: str
) -> list[Path]:
    """Write all files below `folder`; return their paths.

    Args:
        targets: `host:port` to scrape, by part.
        prometheus: `host:port` where Grafana finds Prometheus.
        dashboards_folder: where Grafana finds the dashboards.
    """
    values = {**targets, "prometheus": prometheus, "dashboards": dashboards_folder}
    written = []
    for source in sorted(HERE.rglob("*.yml")):
        text = source.read_text(encoding="utf-8")
        if source.name != "alerts.yml":  # its {{ }} and $ are Prometheus's own
            head, _, rest = text.partition("\n")
            text = rest if head.startswith("# Template") else text
            text = Template(text).substitute(values)
        written.append(_write(folder / source.relative_to(HERE), text))
    for name, text in dashboards.files().items():
        written.append(_write(folder / "grafana" / "dashboards" / name, text))
    return written


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m system.observability", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    filled = actions.add_parser("render", help="write the files for one stack")
    filled.add_argument("folder", type=Path, metavar="DIRECTORY")
    filled.add_argument("--stack", metavar="NAME", help="a running stack, such as default")
    filled.add_argument("--host", default="127.0.0.1", help="where the parts listen (127.0.0.1)")
    actions.add_parser("dashboards", help="draw the dashboards of this folder again")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
    if options.action == "dashboards":
        for name, text in dashboards.files().items():
            print(_write(HERE / "grafana" / "dashboards" / name, text))
        return 0
    try:
        for path in render(options.folder, ports_of(options.stack), options.host):
            print(path)
    except (OSError, StackError) as error:
        print(f"observability: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
