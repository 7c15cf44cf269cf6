"""Takes secrets and personal data out of any text that leaves the process (R7.20, R7.21)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[REDACTED]"
_SECRET_WORDS: Final = (
    "authorization",
    "cookie",
    "password",
    "token",
    "secret",
    "signature",
    "apikey",
    "api-key",
)
_JWT: Final = re.compile(r"\b[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
# The header of a JWT is a JSON object, so its base64 starts with `eyJ`.
_JWT_START: Final = "eyJ"
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]*@")
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_ASSIGNMENT: Final = re.compile(
    r"(?i)([\w-]*(?:authorization|cookie|password|token|secret|signature|api-?key)[\w-]*"
    r"[\"']?\s*[=:]\s*[\"']?)(?:Bearer\s+|Basic\s+)?[^\s\"'&,;}]+"
)


def is_secret_name(name: str) -> bool:
    """Say whether values under this name are secret (R7.20)."""
    lowered = name.lower()
    return any(word in lowered for word in _SECRET_WORDS)


def email_hash(email: str) -> str:
    """Return what stands for an e-mail address in a log line (R7.21)."""
    return "email:" + hashlib.sha256(email.strip().lower().encode()).hexdigest()[:16]


def text(value: str) -> str:
    """Return `value` without tokens, credentials, named secrets and e-mail addresses."""
    if _JWT_START in value:
        value = _JWT.sub(
            lambda found: REDACTED if found[0].startswith(_JWT_START) else found[0], value
        )
    if "://" in value:
        value = _CREDENTIALS.sub("", value)
    value = _ASSIGNMENT.sub(rf"\g<1>{REDACTED}", value)
    if "@" in value:
        value = _EMAIL.sub(lambda found: email_hash(found[0]), value)
    return value


def tree(value: Any) -> Any:
    """Return a copy of a JSON-like value, redacted at any depth."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {
            str(key): REDACTED if is_secret_name(str(key)) else tree(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [tree(item) for item in value]
    return value
