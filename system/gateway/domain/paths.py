"""Brings the path of a request into its normal form, on which alone routing decides (R1.50)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

# Letters, digits, `-`, `_`, `~` and single slashes: such a path is its own normal form.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~-]+)+")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile(r"/{2,}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
# What RFC 3986 allows in a path without an escape; everything else is escaped again.
_PATH_SAFE: Final = "/:@!$&'()*+,;=-._~"


class UnusablePath(ValueError):
    """The path has no normal form: a broken escape, no UTF-8, a control character."""


def split_target(target: str) -> tuple[str, str]:
    """Split a request target into path and query, both as they were sent.

    Args:
        target: origin form (`/a?b`) or absolute form (`http://host/a?b`, RFC 9112, 3.2.2).

    Returns:
        The path, and the query with its question mark or nothing.
    """
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            target = target[absolute.end() :]
            if not target.startswith("/"):
                target = "/" + target
    path, mark, query = target.partition("?")
    return path, mark + query


def normalise(path: str) -> str:
    """Decode once, merge slashes, resolve dot segments (R1.50).

    The result holds decoded characters; `escape` makes it fit for a request line again.

    Args:
        path: as it was sent, without query.

    Raises:
        UnusablePath: nothing that could be routed.
    """
    if _PLAIN.fullmatch(path):
        return path
    if not path.startswith("/"):
        raise UnusablePath(f"seen {path[:64]!r}, expected a path that starts with a slash")
    if _BAD_ESCAPE.search(path):
        raise UnusablePath("seen a percent sign without two hexadecimal digits")
    try:
        # The server hands over bytes outside ASCII as surrogates; they are bytes of the path.
        decoded = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError as error:
        raise UnusablePath("seen bytes that are not UTF-8") from error
    if _CONTROL.search(decoded):
        raise UnusablePath("seen a control character")
    return _resolve(_SLASHES.sub("/", decoded))


def escape(path: str) -> str:
    """Write a normal form as the path of a request line; decoding it once gives it back."""
    if _PLAIN.fullmatch(path):
        return path
    return quote(path, safe=_PATH_SAFE)


def _resolve(path: str) -> str:
    """Resolve `.` and `..` as RFC 3986, 5.2.4 does; above the root there is the root."""
    if "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            if segments:
                segments.pop()
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/" + "/".join(segments)
