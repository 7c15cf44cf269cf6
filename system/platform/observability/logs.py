"""Writes logs as JSON lines with the running correlation id and without secrets (R7.21)."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from functools import lru_cache
from typing import Any, Final, TextIO

import msgspec

from system.platform import moments
from system.platform.observability import correlation, redaction

_TRACEPARENT_PARTS: Final = 4
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C `traceparent`, or None."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == _TRACEPARENT_PARTS and len(parts[1]) == 32 else None


class JsonLines(logging.Formatter):
    """One log entry as one line of JSON.

    Args:
        service: value of `service` in each line.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.  `extra={"fields": {…}}` of a call adds keys."""
        context = correlation.known()
        seconds = time.gmtime(record.created)
        line: dict[str, Any] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": redaction.text(record.getMessage()),
            "correlationId": context.correlation_id if context else None,
            "traceId": trace_id(context.traceparent) if context else None,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            for key, value in redaction.tree(fields).items():
                line.setdefault(key, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = redaction.text(
                "".join(traceback.format_exception(*record.exc_info))
            )
        return _encode(line).decode()


class _RequestLines:
    """Where the lines about requests go, once `configure` has said so."""

    service = ""
    stream: TextIO | None = None


def request(method: str, path: str, status: int, seconds: float) -> None:
    """Write one line about an answered request.

    It goes past `logging`, which would cost a cached answer a tenth of its time; the parts are
    known to hold no secret: the path is a template.

    Args:
        method: of the request.
        path: route template, as for `metrics.observe_request`.
        status: of the answer.
        seconds: it took.
    """
    stream = _RequestLines.stream
    if stream is None:
        return
    context = correlation.known()
    correlation_id = context.correlation_id if context else None
    trace = trace_id(context.traceparent) if context else None
    stream.write(
        f'{{"timestamp":"{moments.now()}",{_known(_RequestLines.service, method, path, status)}'
        f',"correlationId":{_text(correlation_id)},"traceId":{_text(trace)}'
        f',"durationMs":{round(seconds * 1000, 2)}}}\n'
    )
    stream.flush()


def _text(value: str | None) -> str:
    return "null" if value is None else _encode(value).decode()


@lru_cache(maxsize=4096)
def _known(service: str, method: str, path: str, status: int) -> str:
    """Write the members that are the same for all such requests."""
    members = {
        "level": "info",
        "service": service,
        "logger": "request",
        "message": f"{method} {path} {status}",
    }
    return _encode(members).decode()[1:-1]


def configure(service: str, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send all logs of this process through `JsonLines`.

    Args:
        service: name of the process, such as `auth-service`.
        level: entries below it are dropped.
        stream: where the lines go; standard error when None.
    """
    _RequestLines.service = service
    _RequestLines.stream = stream or sys.stderr
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their own lines about every connection and retry say nothing that ours do not.
    for chatty in ("aio_pika", "aiormq", "alembic", "asyncio", "aiohttp.access", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
