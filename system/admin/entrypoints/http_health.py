"""The route that says how the whole system is (R1.143); ADMIN only."""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import get

from system.admin.domain.health import Health
from system.admin.entrypoints.administrators import AnyRequest, administrator, uncached
from system.admin.service.health import Findings, SystemHealth
from system.platform.http import openapi
from system.platform.http.errors import ApiError
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply
from system.platform.http.shapes import COUNT, MOMENT, NUMBER, TEXT, one_of, shape
from system.platform.moments import timestamp

PARTS: Final = (
    "database",
    "redis",
    "rabbitmq",
    "gateway",
    "authService",
    "paymentsService",
    "adminService",
    "profileService",
)
_PART: Final = one_of(Health.HEALTHY, Health.UNHEALTHY)

SYSTEM_HEALTH: Final = shape(
    "SystemHealth",
    {
        "status": one_of(*Health),
        "timestamp": MOMENT,
        "services": shape("SystemParts", dict.fromkeys(PARTS, _PART)),
        "version": TEXT,
        "uptime": NUMBER,
        "responseTime": COUNT,
    },
)


@get("/api/admin/health")
@operation(
    "Look at every part of the system",
    who=openapi.ADMIN,
    answers={200: SYSTEM_HEALTH},
    errors={503: ["HEALTH_CHECK_FAILED"]},
)
async def system_health(request: AnyRequest) -> Reply:
    """R1.143."""
    await administrator(request)
    looking = cast("SystemHealth", request.app.state.system_health)
    findings = await looking.look()
    data = findings_json(findings, request.app.state.version)
    if findings.status is Health.UNHEALTHY:
        raise ApiError(503, "HEALTH_CHECK_FAILED", "The system is unhealthy", data)
    return uncached(data)


ROUTES: Final = (system_health,)


def findings_json(findings: Findings, version: str) -> dict[str, Any]:
    """What was found, as R1.143 shows it."""
    return {
        "status": findings.status,
        "timestamp": timestamp(),
        "services": {
            name: Health.HEALTHY if well else Health.UNHEALTHY
            for name, well in findings.parts.items()
        },
        "version": version,
        "uptime": findings.uptime,
        "responseTime": findings.response_time,
    }
