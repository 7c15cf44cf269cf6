"""Where HTTP reaches the admin service (R1.138, R1.139); ADMIN only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from litestar import get

from system.admin.domain.audit import Action, AuditFilter, AuditRow, Resource
from system.admin.entrypoints.administrators import (
    AnyRequest,
    administrator,
    pagination,
    uncached,
)
from system.admin.ports import AuditLog
from system.admin.service import audit
from system.platform.http import openapi
from system.platform.http.errors import Issue
from system.platform.http.numeric_fields import Integer
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply
from system.platform.http.requests import query
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
from system.platform.http.text_fields import Choice, Date, Uuid
from system.platform.http.validation import Schema
from system.platform.moments import timestamp


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
async def audit_logs(request: AnyRequest) -> Reply:
    """R1.138: a page of the audit log, newest first."""
    await administrator(request)
    wanted = AUDIT_QUERY.parse(query(request))
    page, limit = wanted["page"], wanted["limit"]
    log: AuditLog = request.app.state.audit_log
    rows, total = await audit.audit_page(
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
    return uncached(
        {
            "auditLogs": [row_json(row) for row in rows],
            "pagination": pagination(page, limit, total),
        }
    )


@get("/api/admin/audit-logs/actions")
@operation(
    "List the names of all audited actions",
    who=openapi.ADMIN,
    answers={200: array(one_of(*sorted(Action)))},
)
async def audit_actions(request: AnyRequest) -> Reply:
    """R1.139: the names of all actions, sorted."""
    await administrator(request)
    return uncached(audit.actions())


ROUTES: Final = (audit_logs, audit_actions)
