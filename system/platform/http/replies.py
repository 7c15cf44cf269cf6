"""Answers of a service in their envelopes (R1.1-R1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar.types import Receive, Scope, Send

from system.platform.http.errors import ApiError

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_NO_STORE: Final = (b"cache-control", b"no-store")


class Reply:
    """An answer that is ready to be sent.

    Attributes:
        status: HTTP status.
        body: bytes of the body.
        headers: names in lower case.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        content_type: bytes | None = b"application/json",
    ) -> None:
        self.status = status
        self.body = body
        self.headers: list[tuple[bytes, bytes]] = [_NO_STORE]
        if content_type is not None:
            self.headers += (
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
            )
        if headers:
            self.headers += [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the ASGI application that Litestar takes an answer to be."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def to_asgi_response(self, **_: Any) -> Reply:
        """Return itself; Litestar asks this of what an exception handler returns."""
        return self


def success(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with R1.1's envelope; `data` may be `msgspec.Raw` of JSON that is ready."""
    return Reply(status, b'{"success":true,"data":' + _encode(data) + b"}", headers)


def created(data: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer 201 with R1.1's envelope."""
    return success(data, 201, headers)


def deleted() -> Reply:
    """Answer a DELETE that succeeded (R1.3)."""
    return Reply(204, content_type=None)


def failure(error: ApiError) -> Reply:
    """Answer with R1.2's envelope."""
    return Reply(error.status, _encode(error.body()), error.headers)
