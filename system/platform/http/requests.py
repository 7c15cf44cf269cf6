"""Reads bodies and parameters of a request (R1.7-R1.10)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from litestar import Request

from system.platform.http import errors
from system.platform.security.litestar import header

# R1.10
BODY_LIMIT: Final = 102_400
_decode: Final = msgspec.json.Decoder().decode
_decode_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_JSON_TYPE: Final = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)


async def raw_body(request: Request[Any, Any, Any], limit: int = BODY_LIMIT) -> bytes:
    """Read the whole body.

    Args:
        request: whose body was not read before.
        limit: bytes.

    Raises:
        ApiError: 413 PAYLOAD_TOO_LARGE (R1.10).
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise errors.payload_too_large(limit)
    parts: list[bytes] = []
    size = 0
    receive = request.receive
    while True:
        message = await receive()
        if message["type"] != "http.request":
            # The client went away in the middle; nobody will see the answer.
            raise errors.bad_request("The request ended before its body did")
        part = message.get("body", b"")
        if part:
            size += len(part)
            if size > limit:
                raise errors.payload_too_large(limit)
            parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def json_body(
    request: Request[Any, Any, Any], limit: int = BODY_LIMIT, *, exact: Sequence[str] = ()
) -> dict[str, Any]:
    """Read the body as a JSON object; an empty one, or one of another media type, is absent.

    Args:
        request: whose body was not read before.
        limit: bytes.
        exact: members whose numbers are read as they are written, as Decimals (R1.102).

    Raises:
        ApiError: 413 PAYLOAD_TOO_LARGE (R1.10), 400 INVALID_JSON (R1.9).
    """
    return json_of(request, await raw_body(request, limit), exact=exact)


def json_of(
    request: Request[Any, Any, Any], body: bytes, *, exact: Sequence[str] = ()
) -> dict[str, Any]:
    """Do what `json_body` does with a body that has been read, such as a signed one.

    Raises:
        ApiError: 400 INVALID_JSON (R1.9).
    """
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if _JSON_TYPE.fullmatch(media_type) is None:
        return {}
    values = parse_object(body)
    for name in exact:
        # A float has forgotten digits beyond the sixteenth; the text of the body has them.
        if isinstance(values.get(name), float):
            values[name] = Decimal(bytes(_decode_raw(body)[name]).decode())
    return values


def parse_object(body: bytes) -> dict[str, Any]:
    """Read bytes as a JSON object.

    Raises:
        ApiError: 400 INVALID_JSON (R1.9).
    """
    try:
        value = _decode(body)
    except (ValueError, RecursionError) as error:
        raise errors.invalid_json() from error
    if not isinstance(value, dict):
        raise errors.invalid_json()
    return value


@lru_cache(maxsize=4096)
def _read_query(query_string: bytes) -> tuple[tuple[str, Any], ...]:
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name in values:
            # A parameter given twice is a list, which no field takes: 400 rather than a guess.
            known = values[name]
            values[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            values[name] = value
    return tuple(values.items())


def query(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return the query parameters, decoded; one that occurs twice is a list."""
    return query_of(request.scope["query_string"])


def query_of(query_string: bytes) -> dict[str, Any]:
    """Do what `query` does with the text of the parameters."""
    return dict(_read_query(query_string)) if query_string else {}


def wants_fresh(request: Request[Any, Any, Any]) -> bool:
    """Say whether the caller asks for an answer from the database (R6.3)."""
    wish = header(request, b"cache-control")
    return wish is not None and "no-cache" in wish.lower()
