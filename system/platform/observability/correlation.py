"""Carries what is known about the present request to everything it causes (R7.16, R7.17)."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Final

# W3C: a receiver passes on at least 512 characters.
_TRACESTATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
# RFC 9562: version 4 and variant 10, and the bits that are free.
_VERSION_4: Final = 0x4 << 76 | 0b10 << 62
_FREE: Final = (1 << 128) - 1 ^ (0xF << 76 | 0b11 << 62)
_GOOD: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asked, from where, under which id.

    Attributes:
        correlation_id: R7.16, 1-128 characters of `[A-Za-z0-9._-]`.
        client_address: R1.40; None outside a request.
        user_agent: header of the request, at most 512 characters; None if there is none.
        traceparent: W3C trace context for what is caused from here; unchecked while it is the
            caller's, and None if there is none.
        tracestate: of the caller, passed on unread; None if there is none.
    """

    correlation_id: str
    client_address: str | None = None
    user_agent: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


NOBODY: Final = RequestContext(correlation_id="")
_current: ContextVar[RequestContext] = ContextVar("request_context", default=NOBODY)


def current() -> RequestContext:
    """Return the context of the running request or event; outside of both one with a new id."""
    context = _current.get()
    return context if context.correlation_id else RequestContext(correlation_id=new_id())


def known() -> RequestContext | None:
    """Return the running context, or None outside of any request or event."""
    context = _current.get()
    return context if context.correlation_id else None


def bind(context: RequestContext) -> Token[RequestContext]:
    """Make `context` the running one in this task; give the token to `unbind` when done."""
    return _current.set(context)


def unbind(token: Token[RequestContext]) -> None:
    """Put back what was running before `bind`."""
    _current.reset(token)


def accept(correlation_id: str | None, request_id: str | None = None) -> str:
    """Choose the id of a request (R7.16).

    Args:
        correlation_id: value of X-Correlation-ID, if there was one.
        request_id: value of X-Request-ID, if there was one.

    Returns:
        The first if it is well formed, else the second if it is, else a new UUID.
    """
    for candidate in (correlation_id, request_id):
        if candidate is not None and _GOOD.fullmatch(candidate):
            return candidate
    return new_id()


def new_id() -> str:
    """Make an id: a UUID of version 4 that is unique but no secret, without asking the system."""
    digits = f"{random.getrandbits(128) & _FREE | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def tracestate(value: str | None) -> str | None:
    """Take over a caller's `tracestate` if it can be passed on: W3C's characters, not too many."""
    return value if value is not None and _TRACESTATE.fullmatch(value) else None


def onward() -> dict[str, str]:
    """The headers that make a call to another service part of what runs here (R7.17, R7.18)."""
    context = current()
    headers = {"X-Correlation-ID": context.correlation_id}
    if context.traceparent is not None:
        headers["traceparent"] = context.traceparent
        if context.tracestate is not None:
            headers["tracestate"] = context.tracestate
    return headers
