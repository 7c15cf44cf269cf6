"""What every route of the admin service does: lets administrators in, answers uncached (1.12)."""

from __future__ import annotations

import math
from typing import Any, Final

from litestar import Request

from system.admin.ports import Actor
from system.platform.http.replies import Reply, success
from system.platform.observability import correlation
from system.platform.security.litestar import authenticated
from system.platform.security.principal import Principal, require_role

AnyRequest = Request[Any, Any, Any]

ADMIN: Final = "ADMIN"
# R6.1: nothing of this service is cached.
NOT_CACHED: Final = {"X-Cache": "BYPASS"}


async def administrator(request: AnyRequest) -> Principal:
    """Return who sent this request; before anything else of it is looked at (R1.17).

    Raises:
        ApiError: 401 of R1.28; 403 FORBIDDEN for any other role.
    """
    principal = await authenticated(request)
    require_role(principal, ADMIN)
    return principal


def actor_of(principal: Principal) -> Actor:
    """Return for whom, and from where, a command is given (R1.142)."""
    context = correlation.current()
    return Actor(principal.user_id, context.client_address, context.user_agent)


def uncached(data: Any) -> Reply:
    """Answer a GET."""
    return success(data, headers=NOT_CACHED)


def pagination(page: int, limit: int, total: int) -> dict[str, int]:
    """Say which part of how much a page is."""
    return {"page": page, "limit": limit, "total": total, "totalPages": math.ceil(total / limit)}
