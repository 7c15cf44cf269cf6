"""Requests whose path goes over the wire exactly as written, dots and slashes included."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from harness.probe import tls_context


def get(origin: str, path: str, *, ca: str = "", address: str = "", timeout: float = 10.0) -> Any:
    """One GET whose path no library normalises; status, media type, body (cut), error."""
    parts = urlsplit(origin)
    source = (address, 0) if address else None
    seen: dict[str, Any] = {"path": path, "status": 0, "media": "", "body": "", "error": ""}
    connection = http.client.HTTPSConnection(
        parts.hostname or "",
        parts.port or 443,
        timeout=timeout,
        source_address=source,
        context=tls_context(ca),
    )
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity"})
        reply = connection.getresponse()
        body = reply.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return seen | {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    return seen | {
        "status": reply.status,
        "media": reply.headers.get("content-type", ""),
        "body": body[:2000],
        "code": _code(body),
    }


def _code(body: str) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""
