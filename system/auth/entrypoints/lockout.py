"""The routes by which administrators see and end locks (R1.83-R1.85)."""

from __future__ import annotations

from typing import Any, cast

from litestar import get, post

from system.auth.domain.throttles import Lockout, Scope
from system.auth.entrypoints.caller import AnyRequest, caller
from system.auth.service.lockouts import Lockouts
from system.platform.http.openapi import ADMIN, operation
from system.platform.http.replies import Reply, success
from system.platform.http.shapes import (
    BOOLEAN,
    COUNT,
    EMAIL,
    MOMENT,
    TEXT,
    message,
    nullable,
    shape,
)
from system.platform.http.text_fields import Email
from system.platform.http.validation import Schema
from system.platform.moments import timestamp
from system.platform.security.litestar import authenticated
from system.platform.security.principal import require_role

EMAIL_PATH = Schema({"email": Email()})
LOCKOUT = shape(
    "Lockout",
    {"lockedAt": MOMENT, "unlockAt": MOMENT, "reason": TEXT, "failedAttempts": COUNT},
)
LOCKOUT_STATUS = shape(
    "LockoutStatus",
    {
        "email": EMAIL,
        "isLocked": BOOLEAN,
        "failedAttempts": COUNT,
        "lockout": nullable(LOCKOUT),
    },
)
_REASONS = {
    Scope.PAIR: "Too many failed login attempts from one address",
    Scope.ACCOUNT: "Too many failed login attempts from many addresses",
}


@get("/auth/admin/lockout/{email:str}")
@operation("Show the lock of an account", who=ADMIN, path=EMAIL_PATH, answers={200: LOCKOUT_STATUS})
async def show_lockout(request: AnyRequest) -> Reply:
    """R1.83."""
    require_role(await authenticated(request), "ADMIN")
    email = EMAIL_PATH.parse(request.path_params)["email"]
    failures, lockout = await _lockouts(request).of(email)
    return success(
        {
            "email": email,
            "isLocked": lockout is not None,
            "failedAttempts": failures,
            "lockout": _lockout_json(lockout) if lockout is not None else None,
        }
    )


@post("/auth/admin/unlock/{email:str}", status_code=200)
@operation("Unlock an account", who=ADMIN, path=EMAIL_PATH, answers={200: message()})
async def unlock(request: AnyRequest) -> Reply:
    """R1.84."""
    principal = await authenticated(request)
    require_role(principal, "ADMIN")
    email = EMAIL_PATH.parse(request.path_params)["email"]
    await _lockouts(request).unlock(email, actor_id=principal.user_id, caller=caller())
    return success({"message": f"Account {email} has been unlocked"})


ROUTES = (show_lockout, unlock)


def _lockout_json(lockout: Lockout) -> dict[str, Any]:
    return {
        "lockedAt": timestamp(lockout.locked_at),
        "unlockAt": timestamp(lockout.unlock_at),
        "reason": _REASONS[lockout.scope],
        "failedAttempts": lockout.failures,
    }


def _lockouts(request: AnyRequest) -> Lockouts:
    return cast("Lockouts", request.app.state.lockouts)
