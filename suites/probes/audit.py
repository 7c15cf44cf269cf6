"""The audit log as an administrator reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx

from harness.probe import CouldNotObserve, exchange
from suites.probes.accounts import Session

PAGE = 100


def rows(client: httpx.Client, admin: Session, **filters: str) -> list[dict[str, Any]]:
    """Every audit row that fits the filters (userId, action, resourceType …), newest first.

    Raises:
        CouldNotObserve: the log is not readable as contracted.
    """
    found: list[dict[str, Any]] = []
    page, pages = 1, 1
    while page <= pages:
        query = "&".join(f"{k}={v}" for k, v in {**filters, "limit": PAGE, "page": page}.items())
        seen = exchange(client, "GET", f"/api/admin/audit-logs?{query}", headers=admin.headers)
        data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
        if seen.status != 200 or not isinstance(data, dict) or "auditLogs" not in data:
            raise CouldNotObserve(f"audit log: seen {seen['error'] or seen.status}, expected 200")
        found += data["auditLogs"]
        pages = int(data["pagination"]["totalPages"])
        page += 1
    return found


def acts(found: list[dict[str, Any]]) -> Counter[str]:
    """How often each act stands in the rows, as ``ACTION resourceId``."""
    return Counter(f"{row['action']} {row['resourceId']}" for row in found)
