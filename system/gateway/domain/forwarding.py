"""Which headers cross the gateway, and which it makes itself (R1.51-R1.53)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and those of older documents; `Connection` names further ones.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# Framing and forwarding headers, which the gateway writes anew for each side.
_REQUEST_OWN: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"expect",
        b"forwarded",
        b"x-real-ip",
        b"x-correlation-id",
        b"traceparent",
    }
)
_REQUEST_PREFIXES: Final = (b"x-forwarded-", b"x-internal-", b"x-actor-")
_RESPONSE_OWN: Final = frozenset({b"server", b"x-powered-by", b"x-correlation-id"})
_RESPONSE_PREFIXES: Final = (b"access-control-", b"ratelimit-")

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?"
)
# Header names are few; more than this is somebody inventing them.
_REMEMBERED_NAMES: Final = 1_024


class _Filter:
    """Remembers for each spelling of a header name whether it may pass."""

    def __init__(self, dropped: frozenset[bytes], prefixes: tuple[bytes, ...]) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self.passes: dict[bytes, bool] = {}

    def judge(self, name: bytes) -> bool:
        # An underscore is read as a dash by some servers behind us.
        plain = name.lower().replace(b"_", b"-")
        verdict = plain not in self._dropped and not plain.startswith(self._prefixes)
        if len(self.passes) < _REMEMBERED_NAMES:
            self.passes[name] = verdict
        return verdict


_REQUEST: Final = _Filter(_HOP_BY_HOP | _REQUEST_OWN, _REQUEST_PREFIXES)
_RESPONSE: Final = _Filter(_HOP_BY_HOP | _RESPONSE_OWN, _RESPONSE_PREFIXES)


def request_headers(headers: Headers, connection: Iterable[str]) -> list[bytes]:
    """The client's headers that go upstream, each as a line without its end (R1.51, R1.52).

    Args:
        headers: all headers as received, in their order; repeated ones stay repeated.
        connection: the values of its `Connection` headers.
    """
    return _pass(_REQUEST, headers, connection)


def response_headers(headers: Headers, connection: Iterable[str]) -> list[bytes]:
    """The upstream's headers that go to the client, `Content-Length` included."""
    return _pass(_RESPONSE, headers, connection)


def _pass(chosen: _Filter, headers: Headers, connection: Iterable[str]) -> list[bytes]:
    named = named_by(connection)
    passes = chosen.passes
    lines: list[bytes] = []
    for name, value in headers:
        verdict = passes.get(name)
        if verdict is None:
            verdict = chosen.judge(name)
        if verdict and not (named and name.lower() in named):
            lines.append(name + b": " + value)
    return lines


def named_by(connection: Iterable[str]) -> frozenset[bytes]:
    """The headers that `Connection` makes hop-by-hop; its usual two options are none."""
    names: set[bytes] = set()
    for value in connection:
        lowered = value.lower()
        if lowered in ("keep-alive", "close", ""):
            continue
        names.update(part.strip().encode("latin-1", "replace") for part in lowered.split(","))
    names.discard(b"close")
    names.discard(b"keep-alive")
    names.discard(b"")
    # The length frames the message; dropping it would change what is said, not who hears it.
    names.discard(b"content-length")
    return frozenset(names)


def trace_context(traceparent: bytes | None) -> bytes:
    """Continue a W3C trace, or begin one (R1.52)."""
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
        return traceparent
    random = os.urandom(24).hex().encode()
    return b"00-" + random[:32] + b"-" + random[32:] + b"-01"
