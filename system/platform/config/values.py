"""Reads the value of one variable from its text, or says what was expected instead (R0.13)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from system.platform.config.settings import Network
from system.platform.http.trusted_proxies import trusted_proxies

_KEY_BYTES: Final = 32
TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class Unusable(ValueError):
    """A value has the wrong form; the text says seen and expected."""


def text(value: str) -> str:
    """Any text."""
    return value


def flag(value: str) -> bool:
    """true or false, in their usual spellings."""
    lowered = value.lower()
    if lowered not in TRUE | _FALSE:
        raise Unusable(f"seen {value!r}, expected true or false")
    return lowered in TRUE


def whole(low: int, high: int) -> Callable[[str], int]:
    """Whole numbers from `low` to `high`."""

    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or not low <= int(value) <= high:
            raise Unusable(f"seen {value!r}, expected a whole number from {low} to {high}")
        return int(value)

    return read


port: Final = whole(1, 65535)


def share(value: str) -> float:
    """A share from 0 to 1."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,12})?|\.\d{1,12}", value) or float(value) > 1:
        raise Unusable(f"seen {value!r}, expected a share from 0 to 1, such as 0.1")
    return float(value)


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of these texts."""

    def read(value: str) -> str:
        if value not in allowed:
            raise Unusable(f"seen {value!r}, expected one of {', '.join(allowed)}")
        return value

    return read


def items(value: str) -> list[str]:
    """What stands between commas, blanks apart."""
    return [item.strip() for item in value.split(",") if item.strip()]


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of these schemes, with a host."""

    def read(value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            # The value may hold a password, so it is not repeated.
            raise Unusable(f"expected a URL such as {schemes[0]}://host:port")
        return value

    return read


def urls(value: str) -> tuple[str, ...]:
    """HTTP URLs, comma-separated, without a slash at the end."""
    read = url("http", "https")
    return tuple(read(item).rstrip("/") for item in items(value))


database: Final = url("postgresql", "postgres")


def origin(value: str) -> str:
    """An origin as browsers see it."""
    read = url("https", "http")(value)
    parts = urlsplit(read)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise Unusable(f"seen {value!r}, expected an origin such as https://localhost:8443")
    return read.rstrip("/")


def origins(value: str) -> tuple[str, ...]:
    """Origins, comma-separated."""
    return tuple(origin(item) for item in items(value))


def proxies(value: str) -> frozenset[str]:
    """Addresses and networks, comma-separated, as a set of addresses."""
    try:
        return trusted_proxies(items(value))
    except ValueError as error:
        raise Unusable(f"{error}; expected addresses or networks, comma-separated") from None


def networks(value: str) -> tuple[Network, ...]:
    """Addresses and networks, comma-separated."""
    try:
        return tuple(ip_network(item) for item in items(value))
    except ValueError as error:
        raise Unusable(f"{error}; expected addresses or networks, comma-separated") from None


def duration(value: str) -> str:
    """A time such as 15m."""
    if not re.fullmatch(r"[1-9]\d{0,8}(s|m|h|d)?", value):
        raise Unusable(f"seen {value!r}, expected a time such as 15m, 12h or 7d")
    return value


def encryption_key(value: str) -> bytes:
    """The 32 bytes of an AES-256 key, in base64."""
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise Unusable("expected base64 of 32 bytes; make one with `openssl rand -base64 32`")
    return key


def key_list(value: str) -> str:
    """A JSON array of keys, each with kid and secret; stays text."""
    for number, entry in enumerate(key_entries(value), 1):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), str) and entry[name] for name in ("kid", "secret")
        ):
            raise Unusable(f"entry {number}: expected an object with the texts kid and secret")
    return value


def key_entries(value: str) -> list[Any]:
    """The entries of a JSON array that has some."""
    try:
        entries = json.loads(value)
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not entries:
        raise Unusable("expected a JSON array of {kid, secret, createdAt, expiresAt, …}")
    return entries
