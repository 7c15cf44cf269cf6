"""Requests whose path goes over the wire exactly as written, dots and slashes included."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from harness.addresses import connect
from harness.probe import tls_context


def get(origin: str, path: str, *, ca: str = "", address: str = "", timeout: float = 10.0) -> Any:
    """One GET whose path no library normalises; status, media type, body (cut), error."""
    parts = urlsplit(origin)
    seen: dict[str, Any] = {"path": path, "status": 0, "media": "", "body": "", "error": ""}
    host, port = parts.hostname or "", parts.port or 443
    connection = http.client.HTTPSConnection(host, port)
    try:
        raw = connect(host, port, address, timeout)
        connection.sock = tls_context(ca).wrap_socket(raw, server_hostname=host)
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
