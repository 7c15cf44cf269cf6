"""GraphQL as a probe asks it; refusals are read as their REST counterparts (contract R10.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from harness.probe import Exchange, exchange

ME = "{ me { id } }"


def ask(
    client: httpx.Client,
    query: str,
    *,
    headers: Mapping[str, str],
    variables: Mapping[str, Any] | None = None,
) -> Exchange:
    """Execute a document; returns the exchange as it was."""
    body = {"query": query, **({"variables": dict(variables)} if variables else {})}
    return exchange(client, "POST", "/graphql", headers=headers, json=body)


def as_rest(seen: Exchange) -> Exchange:
    """The exchange with the first execution error as status and envelope of REST.

    GraphQL answers 200 with ``errors[].extensions`` of ``code`` and ``status``; whoever compares
    doors wants to see 401 TOKEN_REVOKED whichever door it was.
    """
    body = seen["json"]
    errors = body.get("errors") if isinstance(body, dict) else None
    if seen.status != 200 or not isinstance(errors, list) or not errors:
        return seen
    told = errors[0].get("extensions") or {}
    status = told.get("status")
    return Exchange(
        {
            **seen,
            "status": status if isinstance(status, int) else seen.status,
            "json": {
                "success": False,
                "error": {"code": told.get("code", ""), "message": errors[0].get("message", "")},
            },
        }
    )
