"""Writes spans as the body of an OTLP/HTTP request, protobuf (R7.18).

Only what `Span` has is written, so the wire format comes to a few fixed fields; the numbers are
those of opentelemetry/proto/trace/v1/trace.proto, and the tests read the result with the official
classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from system.platform.observability.tracing import Attribute, Span

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_SAMPLED: Final = 1
_HAS_REMOTE: Final = 0x100
_ERROR: Final = 2


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


# AnyValue
_STRING: Final = _tag(1, _BYTES)
_BOOL: Final = _tag(2, _VARINT)
_INT: Final = _tag(3, _VARINT)
# KeyValue
_KEY: Final = _tag(1, _BYTES)
_VALUE: Final = _tag(2, _BYTES)
# Span
_TRACE_ID: Final = _tag(1, _BYTES) + b"\x10"
_SPAN_ID: Final = _tag(2, _BYTES) + b"\x08"
_PARENT_ID: Final = _tag(4, _BYTES) + b"\x08"
_NAME: Final = _tag(5, _BYTES)
_KIND: Final = _tag(6, _VARINT)
_START: Final = _tag(7, _FIXED64)
_END: Final = _tag(8, _FIXED64)
_ATTRIBUTES: Final = _tag(9, _BYTES)
_STATUS: Final = _tag(15, _BYTES)
_FLAGS: Final = _tag(16, 5)
# Status
_MESSAGE: Final = _tag(2, _BYTES)
_CODE: Final = _tag(3, _VARINT)
# ExportTraceServiceRequest, ResourceSpans, ScopeSpans
_RESOURCE_SPANS: Final = _tag(1, _BYTES)
_RESOURCE: Final = _tag(1, _BYTES)
_SCOPE_SPANS: Final = _tag(2, _BYTES)
_RESOURCE_ATTRIBUTES: Final = _tag(1, _BYTES)
_SCOPE: Final = _tag(1, _BYTES)
_SCOPE_NAME: Final = _tag(1, _BYTES)
_SPANS: Final = _tag(2, _BYTES)

_SCOPE_OF_OURS: Final = _field(_SCOPE, _field(_SCOPE_NAME, b"system.platform.observability"))
# Attributes of which nearly every span has its own value; remembering them would not help.
_FREE: Final = frozenset({"http.request_id", "messaging.message.id"})
_SPAN_FLAGS: Final = _FLAGS + (_SAMPLED | _HAS_REMOTE).to_bytes(4, "little")


def _any_value(value: Attribute) -> bytes:
    if isinstance(value, bool):
        return _BOOL + (b"\x01" if value else b"\x00")
    if isinstance(value, int):
        return _INT + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    return _field(_STRING, str(value).encode("utf-8", "replace"))


def _key_value(name: str, value: Attribute) -> bytes:
    return _field(_KEY, name.encode()) + _field(_VALUE, _any_value(value))


@lru_cache(maxsize=4096, typed=True)
def _known(name: str, value: Attribute) -> bytes:
    """An attribute whose values come from a closed set."""
    return _field(_ATTRIBUTES, _key_value(name, value))


def _span(span: Span) -> bytes:
    parts = [
        _TRACE_ID,
        bytes.fromhex(span.trace_id),
        _SPAN_ID,
        bytes.fromhex(span.span_id),
        _field(_NAME, span.name.encode("utf-8", "replace")),
        _KIND,
        bytes((span.kind,)),
        _START,
        span.start_ns.to_bytes(8, "little"),
        _END,
        span.end_ns.to_bytes(8, "little"),
        _SPAN_FLAGS,
    ]
    if span.parent_id:
        parts += (_PARENT_ID, bytes.fromhex(span.parent_id))
    if span.correlation_id:
        parts.append(_field(_ATTRIBUTES, _key_value("correlation_id", span.correlation_id)))
    for name, value in span.attributes.items():
        if name in _FREE:
            parts.append(_field(_ATTRIBUTES, _key_value(name, value)))
        else:
            parts.append(_known(name, value))
    if span.error is not None:
        message = _field(_MESSAGE, span.error.encode("utf-8", "replace"))
        parts.append(_field(_STATUS, message + _CODE + bytes((_ERROR,))))
    return b"".join(parts)


def resource(attributes: Mapping[str, Attribute]) -> bytes:
    """Write what all spans of a process have in common, once for all requests."""
    return _field(
        _RESOURCE,
        b"".join(
            _field(_RESOURCE_ATTRIBUTES, _key_value(name, value))
            for name, value in attributes.items()
        ),
    )


def request(resource_field: bytes, spans: Iterable[Span]) -> bytes:
    """Write an ExportTraceServiceRequest.

    Args:
        resource_field: made by `resource`.
        spans: finished ones.
    """
    scope = _SCOPE_OF_OURS + b"".join(_field(_SPANS, _span(span)) for span in spans)
    return _field(_RESOURCE_SPANS, resource_field + _field(_SCOPE_SPANS, scope))
