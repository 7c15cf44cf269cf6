"""Takes secrets and personal data out of any text that leaves the process (R7.20, R7.21)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
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
    "api_key",
)
# The header of a JWT is a JSON object, so its base64 starts with `eyJ`.
_JWT_START: Final = "eyJ"
# Bounded repetitions here and below: a hostile text must not take quadratic time.
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{5,1024}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]*@")
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%'*+^_`{|}~-]{1,64}(?:@|%40)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)
_NAME: Final = (
    r"(?<![\w-])[\w-]{0,64}?"
    r"(?:authorization|cookie|password|token|secret|signature|api[-_]?key)[\w-]{0,64}"
)
# A header's whole line is its value: `Cookie: a=1; b=2`.
_HEADER: Final = re.compile(
    r"(?im)\b((?:proxy-)?authorization|(?:set-)?cookie)(:[ \t]*)(?![\"'\s])[^\r\n\"']+"
)
# `password=x`, `"password": "x y"`, `'token': 'x'`, `token%3Dx`; a quoted value ends with its
# quote, any other with the next thing that cannot belong to it.
_ASSIGNMENT: Final = re.compile(
    rf"(?i)({_NAME}(?:\\?[\"']|%22)?\s*(?:[=:]|%3D|%3A)\s*)"
    r"(?:\\?\"(?:\\.|[^\"\\])*\\?\"|'(?:\\.|[^'\\])*'"
    r"|(?:%22)?(?:Bearer\s+|Basic\s+)?[^\s\"'&,;}]+)"
)
_WORDS: Final = re.compile("|".join(_SECRET_WORDS), re.IGNORECASE)

Replace = Callable[[str], str]


def is_secret_name(name: str) -> bool:
    """Say whether values under this name are secret (R7.20)."""
    lowered = name.lower()
    return any(word in lowered for word in _SECRET_WORDS)


def email_hash(email: str) -> str:
    """Return what stands for an e-mail address in a log line (R7.21)."""
    return "email:" + hashlib.sha256(email.strip().lower().encode()).hexdigest()[:16]


def text(value: str, email: Replace = email_hash) -> str:
    """Return `value` without tokens, credentials, named secrets and e-mail addresses.

    Args:
        value: any text.
        email: gives what stands in the place of an address.
    """
    if _JWT_START in value:
        value = _JWT.sub(REDACTED, value)
    if "://" in value:
        value = _CREDENTIALS.sub("", value)
    if _WORDS.search(value) is not None:
        value = _HEADER.sub(rf"\g<1>\g<2>{REDACTED}", value)
        value = _ASSIGNMENT.sub(rf"\g<1>{REDACTED}", value)
    if "@" in value or "%40" in value:
        value = _EMAIL.sub(lambda found: email(found[0]), value)
    return value


def tree(
    value: Any, *, email: Replace = email_hash, untouched: frozenset[str] = frozenset()
) -> Any:
    """Return a copy of a JSON-like value, redacted at any depth.

    Args:
        value: mappings, sequences, texts and numbers.
        email: see `text`.
        untouched: keys whose values are left as they are, because they hold no data of users.
    """
    if isinstance(value, str):
        return text(value, email)
    if isinstance(value, Mapping):
        return {
            str(key): (
                item
                if key in untouched
                else REDACTED
                if is_secret_name(str(key))
                else tree(item, email=email, untouched=untouched)
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) == 2 and isinstance(value, list | tuple):
            # A pair of name and value, as headers often come.
            name = value[0]
            if isinstance(name, str) and is_secret_name(name):
                return [name, REDACTED]
        return [tree(item, email=email, untouched=untouched) for item in value]
    return value
