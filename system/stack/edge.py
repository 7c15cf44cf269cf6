"""nginx: the edge that system/edge renders, as a child in the foreground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from system.stack.launch import Launch


def prepare(
    folder: Path,
    tls: Path,
    ports: Mapping[str, int],
    transform: Callable[[str], str] | None = None,
) -> Launch:
    raise NotImplementedError
