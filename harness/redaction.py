"""Take secrets out of whatever is written down: evidence, reasons and reproduction commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[REDACTED]"

# The name of a field or header; a phrase with blanks is a label and names no secret.
_SECRET_KEY = re.compile(
    r"[\w.-]*(?:authorization|cookie|password|token|secret|signature|api-?key|"
    r"sec-websocket-protocol)[\w.-]*",
    re.IGNORECASE,
)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@/]+@", re.IGNORECASE)
_PAIR = re.compile(
    r"""(?P<head>["']\w*(?:password|token|secret|authorization)["']\s*:\s*["']"""
    r"""|\b\w*(?:password|token|secret)=)(?P<value>[^\s"'&,}]+)""",
    re.IGNORECASE,
)
# An event's type (contract R3.10) as the name of a count or a reason: user.password_changed.
_EVENT_TYPE = re.compile(r"[a-z]+\.[a-z_]*(?:changed|rotated|detected)")
# Names that hold the word but not the thing, as they occur in evidence.
_HARMLESS = frozenset(
    {"tokens", "secrets", "tls_extended_master_secret", "missing_extended_master_secret"}
)


def redact_text(text: str) -> str:
    """The text with JWTs, passwords in URLs and ``password=…`` pairs replaced."""
    text = _JWT.sub(REDACTED, text)
    text = _URL_PASSWORD.sub(rf"\g<head>{REDACTED}@", text)
    return _PAIR.sub(
        lambda m: m.group(0) if m["value"].startswith("[") else m["head"] + REDACTED, text
    )


def redact(value: Any) -> Any:
    """A JSON-able value with every secret replaced, at any depth."""
    if isinstance(value, Mapping):
        return {key: _redact_field(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return redact_text(value)
    return value


def _redact_field(key: str, item: Any) -> Any:
    if isinstance(item, str) and item and _names_a_secret(key):
        return REDACTED
    return redact(item)


def _names_a_secret(key: str) -> bool:
    if key in _HARMLESS or _EVENT_TYPE.fullmatch(key):
        return False
    return _SECRET_KEY.fullmatch(key) is not None
