"""Marks gateways down in a rendered configuration, so that a reload passes them over."""

from __future__ import annotations

import re
from collections.abc import Collection

# One line of the upstream of R5.16, as nginx.conf.j2 writes it.
_SERVER = re.compile(r"^(?P<head> *server (?P<address>\S+) max_fails=0)(?: down)?;", re.MULTILINE)


def with_down(text: str, down: Collection[str]) -> str:
    """The configuration with exactly these gateways marked down.

    Args:
        text: as `render` made it, or as this function left it.
        down: ``host:port`` of each gateway that gets no request.

    Raises:
        ValueError: one of them is not in the configuration, or none would be left.
    """
    there = {found["address"] for found in _SERVER.finditer(text)}
    if unknown := sorted(set(down) - there):
        raise ValueError(f"no gateway {', '.join(unknown)}; there are {', '.join(sorted(there))}")
    if there <= set(down):
        raise ValueError(f"all gateways would be down: {', '.join(sorted(there))}")

    def line(found: re.Match[str]) -> str:
        return found["head"] + (" down;" if found["address"] in down else ";")

    return _SERVER.sub(line, text)
