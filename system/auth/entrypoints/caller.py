"""Reads who stands at the other end of a request, and what its headers ask for."""

from __future__ import annotations

from typing import Any

from litestar import Request

from system.auth.domain.devices import DEVICE_ID_PATTERN
from system.auth.ports import Caller
from system.platform.http.text_fields import Matching, Text
from system.platform.http.validation import Schema
from system.platform.observability import correlation

AnyRequest = Request[Any, Any, Any]

DEVICE_HEADER = "X-Device-ID"
TRANSPORT_HEADER = "X-Token-Transport"

HEADERS = Schema(
    {
        DEVICE_HEADER: Matching(
            DEVICE_ID_PATTERN,
            optional=True,
            description="The device that the session is bound to.",
            example="browser-1",
        ),
        TRANSPORT_HEADER: Text(
            optional=True,
            description="`cookie` carries the refresh token in a cookie instead of the body.",
            example="body",
        ),
    }
)
TRANSPORT = Schema({TRANSPORT_HEADER: HEADERS.fields[TRANSPORT_HEADER]})


def headers_of(request: AnyRequest) -> dict[str, str]:
    """Return those of `HEADERS` that were sent, for parsing."""
    return {
        name: value for name in HEADERS.fields if (value := request.headers.get(name)) is not None
    }


def caller(device_id: str | None = None) -> Caller:
    """Return the caller of the running request."""
    context = correlation.current()
    return Caller(context.client_address, context.user_agent, device_id)
