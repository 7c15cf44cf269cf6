"""A row as canonical JSON, and its checksum (R9.8)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


class Inexact(ValueError):
    """A number of a JSON document would change on its way through a binary float."""


def canonical(row: Mapping[str, Any]) -> str:
    """A row's canonical JSON: keys sorted, no blanks, signs of other alphabets as they are."""
    return json.dumps(
        row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def checksum(text: str) -> str:
    """SHA-256, hex, of canonical JSON in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str | bytes) -> Any:
    """The value of a JSON document of a database.

    Raises:
        Inexact: it holds a number that a binary float cannot carry.
    """
    return json.loads(text, parse_float=_exact)


def _exact(text: str) -> float:
    value = float(text)
    if Decimal(text) != Decimal(repr(value)):
        raise Inexact(
            f"seen the number {text}, expected one that a binary float of 64 bits carries exactly "
            "enough to be written the same again; store it as a text, then export again"
        )
    return value
