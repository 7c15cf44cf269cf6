"""Traces one request through processes: W3C context in, spans out (R7.18).

A span here is a few fields in one object: the SDK's own costs 19 µs to make and 28 µs to encode,
several times what a cached answer may cost in all (docs/decisions/0005-trace-recording.md).  The
sampler and the resource are the SDK's, so that its variables mean what they always mean, and what
leaves the process is OTLP.

While tracing is off, nothing here does more than read one variable.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from enum import IntEnum
from types import TracebackType
from typing import Any, Final

Attribute = str | int | bool
# Says whether a new trace (or one that comes in from outside) is recorded: trace id, span id of
# the caller or 0, whether the caller records, name.
Decide = Callable[[int, int, bool, str], bool]

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING: Final = frozenset({"0" * 32, "0" * 16})
_ERROR_LIMIT: Final = 256


class Kind(IntEnum):
    """OTLP's numbers of what a span stands for."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span:
    """One piece of work; `end` it once, or use it as a context, in which it is the current one.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: of the span that caused it, "" if none did.
        name: from a closed set: a template, a statement's verb and table, a type of event.
        start_ns, end_ns: since the epoch.
        correlation_id: R7.17; an attribute of every span.
        attributes: further ones.
        error: what went wrong, None when nothing did.
        sampled: whether it is exported; if not, only its context travels on.
    """

    __slots__ = (
        "_token",
        "attributes",
        "correlation_id",
        "end_ns",
        "error",
        "kind",
        "name",
        "parent_id",
        "sampled",
        "span_id",
        "start_ns",
        "trace_id",
    )

    def __init__(
        self,
        trace_id: str,
        parent_id: str,
        name: str,
        kind: Kind,
        correlation_id: str,
        *,
        sampled: bool,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = f"{random.getrandbits(64) or 1:016x}"
        self.parent_id = parent_id
        self.name = name
        self.kind = kind
        self.correlation_id = correlation_id
        self.sampled = sampled
        self.attributes: dict[str, Attribute] = {}
        self.error: str | None = None
        self.start_ns = time.time_ns()
        self.end_ns = 0
        self._token: Token[Span | None] | None = None

    @property
    def traceparent(self) -> str:
        """What those who are called from here get as their context."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def end(self, error: BaseException | None = None) -> None:
        """The work is done; `error` is why it failed.  A second call has no effect."""
        if self.end_ns:
            return
        self.end_ns = time.time_ns()
        if error is not None and self.error is None:
            # The type alone: texts of errors hold values of users.
            self.error = type(error).__name__[:_ERROR_LIMIT]
        if self.sampled and _State.sink is not None:
            _State.sink(self)

    def __enter__(self) -> Span:
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        self.end(error)


class _State:
    """What `turn_on` has set; None while tracing is off."""

    sink: Callable[[Span], None] | None = None
    decide: Decide | None = None


_current: ContextVar[Span | None] = ContextVar("current_span", default=None)


def turn_on(sink: Callable[[Span], None], decide: Decide) -> None:
    """Begin to record.

    Args:
        sink: gets every finished span that is sampled; must not wait.
        decide: the sampler.
    """
    _State.sink, _State.decide = sink, decide


def turn_off() -> None:
    """Record no more."""
    _State.sink = _State.decide = None


def is_on() -> bool:
    """Whether spans are recorded at all."""
    return _State.decide is not None


def current() -> Span | None:
    """The recorded span that what happens now belongs to."""
    return _current.get()


def make_current(span: Span | None) -> Token[Span | None]:
    """Let `span` be the current one until `leave`; one that is not sampled counts as none."""
    return _current.set(span if span is not None and span.sampled else None)


def leave(token: Token[Span | None]) -> None:
    """Put back what was current before `make_current`."""
    _current.reset(token)


def read(traceparent: str | None) -> tuple[str, str, bool] | None:
    """Read a W3C `traceparent`: trace id, span id, whether the caller records; None if it is none.

    >>> read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    ('0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331', True)
    """
    found = _TRACEPARENT.match(traceparent) if traceparent else None
    if found is None or traceparent is None:
        return None
    rest = traceparent[found.end() :]
    if rest and (traceparent.startswith("00") or not rest.startswith("-")):
        return None
    trace_id, span_id = found[1], found[2]
    if trace_id in _NOTHING or span_id in _NOTHING:
        return None
    return trace_id, span_id, bool(int(found[3], 16) & 1)


def enter(name: str, kind: Kind, traceparent: str | None, correlation_id: str) -> Span | None:
    """Begin the first span of a request or message in this process.

    Args:
        name: of the span; may be changed until its end.
        kind: SERVER or CONSUMER.
        traceparent: of the caller, unchecked; None begins a trace.
        correlation_id: R7.17.

    Returns:
        None while tracing is off.
    """
    decide = _State.decide
    if decide is None:
        return None
    caller = read(traceparent)
    if caller is None:
        trace_id, parent_id, recorded = f"{random.getrandbits(128) or 1:032x}", "", False
        sampled = decide(int(trace_id, 16), 0, recorded, name)
    else:
        trace_id, parent_id, recorded = caller
        sampled = decide(int(trace_id, 16), int(parent_id, 16), recorded, name)
    return Span(trace_id, parent_id, name, kind, correlation_id, sampled=sampled)


def child(name: str, kind: Kind) -> Span | None:
    """Begin a span below the current one; None when there is none, so nothing is to be recorded."""
    parent = _current.get()
    if parent is None:
        return None
    return Span(
        parent.trace_id, parent.span_id, name, kind, parent.correlation_id, sampled=parent.sampled
    )


def follow(name: str, kind: Kind, traceparent: str | None, correlation_id: str) -> Span | None:
    """Begin a span that goes on where a message came from; None unless its sender records.

    Args:
        name: of the span.
        kind: PRODUCER or CONSUMER.
        traceparent: that travelled with the message, unchecked.
        correlation_id: R7.17.
    """
    if _State.decide is None:
        return None
    sender = read(traceparent)
    if sender is None or not sender[2]:
        return None
    return Span(sender[0], sender[1], name, kind, correlation_id, sampled=True)


def answered(span: Span, method: str, route: str, status: int, request_id: str) -> None:
    """End the span of a request (R7.18).

    Args:
        span: made by `enter`.
        method: HTTP method.
        route: template of the path (R7.12).
        status: of the answer; from 500 on the span has failed.
        request_id: X-Request-ID, or what stands for it.
    """
    span.name = f"{method} {route}"
    span.attributes.update(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "http.request_id": request_id,
        }
    )
    if status >= 500:
        span.error = str(status)
    span.end()


class Quiet:
    """The context of no span."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None


QUIET: Final = Quiet()


def within(span: Span | None) -> Span | Quiet:
    """A context for a span that may be none: `with within(child(…)):`."""
    return QUIET if span is None else span


def describe(span: Span | None, attributes: Mapping[str, Attribute]) -> None:
    """Add attributes to a span that may be none."""
    if span is not None:
        span.attributes.update(attributes)
