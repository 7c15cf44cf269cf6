"""Where HTTP reaches the admin service (R1.138, R1.139); ADMIN only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from litestar import Request, get

from system.admin import service
from system.admin.domain import Action, AuditFilter, AuditRow, Resource
from system.admin.ports import AuditLog
from system.platform.http import openapi
from system.platform.http.app import Reply, query, success
from system.platform.http.openapi import operation
from system.platform.http.shapes import (
    ANY_OBJECT,
    EMAIL,
    ID,
    MOMENT,
    PAGINATION,
    TEXT,
    array,
    nullable,
    one_of,
    shape,
)
from system.platform.http.validation import Choice, Date, Integer, Issue, Schema, Uuid
from system.platform.moments import timestamp
from system.platform.security.litestar import authenticated
from system.platform.security.principal import require_role

ADMIN: Final = "ADMIN"
# R6.1: nothing of this service is cached.
_NOT_CACHED: Final = {"X-Cache": "BYPASS"}


def _in_order(values: Mapping[str, Any]) -> Iterable[Issue]:
    start, end = values.get("startDate"), values.get("endDate")
    if start is not None and end is not None and end < start:
        yield Issue(("endDate",), "custom", "Must not be before startDate")


AUDIT_QUERY: Final = Schema(
    {
        "page": Integer(1, default=1),
        "limit": Integer(1, 100, default=20),
        "action": Choice(*sorted(Action), optional=True),
        "userId": Uuid(optional=True),
        "resourceType": Choice(*Resource, optional=True),
        "startDate": Date(optional=True),
        "endDate": Date(end=True, optional=True),
    },
    rules=(_in_order,),
)

AUDIT_ROW: Final = shape(
    "AuditRow",
    {
        "id": ID,
        "userId": TEXT,
        "userName": TEXT,
        "userEmail": EMAIL,
        "action": one_of(*sorted(Action)),
        "resourceType": nullable(one_of(*Resource)),
        "resourceId": nullable(TEXT),
        "details": ANY_OBJECT,
        "ipAddress": TEXT,
        "userAgent": TEXT,
        "correlationId": TEXT,
        "timestamp": MOMENT,
    },
    optional={"userName", "userEmail", "details", "ipAddress", "userAgent", "correlationId"},
)
AUDIT_PAGE: Final = shape("AuditPage", {"auditLogs": array(AUDIT_ROW), "pagination": PAGINATION})


def row_json(row: AuditRow) -> dict[str, Any]:
    """Return a row as R1.142 shows it; what is not known is left out, but for the actor."""
    optional = {
        "userName": row.user_name,
        "userEmail": row.user_email,
        "details": row.details,
        "ipAddress": row.ip_address,
        "userAgent": row.user_agent,
        "correlationId": row.correlation_id,
    }
    return {
        "id": row.id,
        "userId": row.user_id or "",
        "action": row.action,
        "resourceType": row.resource_type,
        "resourceId": row.resource_id,
        **{name: value for name, value in optional.items() if value is not None},
        "timestamp": timestamp(row.at),
    }


@get("/api/admin/audit-logs")
@operation(
    "List the audit log, newest first",
    who=openapi.ADMIN,
    query=AUDIT_QUERY,
    answers={200: AUDIT_PAGE},
)
async def audit_logs(request: Request[Any, Any, Any]) -> Reply:
    """R1.138: a page of the audit log, newest first."""
    require_role(await authenticated(request), ADMIN)
    wanted = AUDIT_QUERY.parse(query(request))
    page, limit = wanted["page"], wanted["limit"]
    log: AuditLog = request.app.state.audit_log
    rows, total = await service.audit_page(
        log,
        AuditFilter(
            action=wanted.get("action"),
            user_id=wanted.get("userId"),
            resource_type=wanted.get("resourceType"),
            start=wanted.get("startDate"),
            end=wanted.get("endDate"),
        ),
        page=page,
        limit=limit,
    )
    return success(
        {
            "auditLogs": [row_json(row) for row in rows],
            "pagination": {
                "page": page,
                "limit": limit,
                "total": total,
                "totalPages": math.ceil(total / limit),
            },
        },
        headers=_NOT_CACHED,
    )


@get("/api/admin/audit-logs/actions")
@operation(
    "List the names of all audited actions",
    who=openapi.ADMIN,
    answers={200: array(one_of(*sorted(Action)))},
)
async def audit_actions(request: Request[Any, Any, Any]) -> Reply:
    """R1.139: the names of all actions, sorted."""
    require_role(await authenticated(request), ADMIN)
    return success(service.actions(), headers=_NOT_CACHED)


ROUTES: Final = (audit_logs, audit_actions)
