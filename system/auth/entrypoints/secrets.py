"""The routes by which administrators see and rotate signing keys (R1.95-R1.99)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from litestar import get, post

from system.auth.domain.keys import KeyKind, KeyStatus, Rotation
from system.auth.entrypoints.caller import AnyRequest
from system.auth.service.keys import KeyKeeper
from system.auth.service.moments import utc_now
from system.platform.http.numeric_fields import Integer
from system.platform.http.openapi import ADMIN, operation
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_body
from system.platform.http.shapes import BOOLEAN, COUNT, MOMENT, TEXT, array, nullable, shape
from system.platform.http.text_fields import Choice, Text
from system.platform.http.validation import Schema
from system.platform.moments import timestamp
from system.platform.security.litestar import authenticated
from system.platform.security.principal import Principal, require_role

_BOTH = "both"
ROTATION = Schema(
    {
        "type": Choice(*KeyKind, _BOTH, default=_BOTH),
        "reason": Text(minimum=1, maximum=500, example="Yearly rotation"),
        "expiresInDays": Integer(minimum=1, maximum=365, optional=True),
    }
)

KEY = shape(
    "SigningKey",
    {
        "kid": TEXT,
        "createdAt": MOMENT,
        "expiresAt": nullable(MOMENT),
        "isActive": BOOLEAN,
        "canVerify": BOOLEAN,
    },
)
STATUS = shape("SigningKeys", {"jwtSecrets": array(KEY), "refreshSecrets": array(KEY)})
NEW_KEY = shape("NewSigningKey", {"kid": TEXT})
ROTATED_KINDS = shape(
    "RotatedKinds", {"jwt": NEW_KEY, "refresh": NEW_KEY}, optional=["jwt", "refresh"]
)
ROTATED = shape("Rotated", {"message": TEXT, "rotated": ROTATED_KINDS, "warning": TEXT})
HISTORY = shape(
    "RotationHistory",
    {
        "rotations": array(
            shape(
                "Rotation",
                {
                    "rotatedAt": MOMENT,
                    "oldKid": nullable(TEXT),
                    "newKid": TEXT,
                    "triggeredBy": TEXT,
                    "reason": TEXT,
                },
            )
        )
    },
)
EXPIRING = shape(
    "ExpiringSecrets",
    {
        "message": TEXT,
        "expiringSecrets": array(
            shape("ExpiringSecret", {"kid": TEXT, "expiresAt": MOMENT, "daysUntilExpiry": COUNT})
        ),
    },
)


@get("/auth/admin/secrets/status")
@operation("Show the signing keys", who=ADMIN, answers={200: STATUS})
async def show_secrets(request: AnyRequest) -> Reply:
    """R1.95."""
    await _admin(request)
    found = await _keeper(request).status()
    return success(
        {
            "jwtSecrets": _keys_json(found, KeyKind.JWT),
            "refreshSecrets": _keys_json(found, KeyKind.REFRESH),
        }
    )


@post("/auth/admin/secrets/rotate")
@operation("Rotate signing keys", who=ADMIN, body=ROTATION, answers={200: ROTATED})
async def rotate_secrets(request: AnyRequest) -> Reply:
    """R1.96."""
    principal = await _admin(request)
    given = ROTATION.parse(await json_body(request))
    kinds = tuple(KeyKind) if given["type"] == _BOTH else (KeyKind(given["type"]),)
    kids = await _keeper(request).rotate(
        kinds,
        reason=given["reason"],
        expires_in_days=given.get("expiresInDays"),
        actor_id=principal.user_id,
    )
    return success(
        {
            "message": "Secrets rotated successfully",
            "rotated": {str(kind): {"kid": kid} for kind, kid in kids.items()},
            "warning": "Tokens signed with a former key are accepted until they expire",
        }
    )


@get("/auth/admin/secrets/rotation-history")
@operation("List the rotations of signing keys", who=ADMIN, answers={200: HISTORY})
async def rotation_history(request: AnyRequest) -> Reply:
    """R1.97."""
    await _admin(request)
    rotations = await _keeper(request).rotations()
    return success({"rotations": [_rotation_json(rotation) for rotation in rotations]})


@post("/auth/admin/secrets/check-expiring")
@operation("List signing keys that expire soon", who=ADMIN, answers={200: EXPIRING})
async def check_expiring(request: AnyRequest) -> Reply:
    """R1.98."""
    await _admin(request)
    found = await _keeper(request).expiring()
    return success(
        {
            "message": f"{len(found)} signing key(s) expire within 30 days",
            "expiringSecrets": [
                {
                    "kid": status.kid,
                    "expiresAt": timestamp(status.expires_at),
                    "daysUntilExpiry": days,
                }
                for status, days in found
            ],
        }
    )


ROUTES = (show_secrets, rotate_secrets, rotation_history, check_expiring)


def _keys_json(found: Sequence[KeyStatus], kind: KeyKind) -> list[dict[str, Any]]:
    now = utc_now()
    return [
        {
            "kid": status.kid,
            "createdAt": timestamp(status.created_at),
            "expiresAt": timestamp(status.expires_at) if status.expires_at else None,
            "isActive": status.is_active,
            "canVerify": status.verifies(now),
        }
        for status in found
        if status.kind is kind
    ]


def _rotation_json(rotation: Rotation) -> dict[str, Any]:
    return {
        "rotatedAt": timestamp(rotation.rotated_at),
        "oldKid": rotation.old_kid,
        "newKid": rotation.new_kid,
        "triggeredBy": rotation.triggered_by,
        "reason": rotation.reason,
    }


async def _admin(request: AnyRequest) -> Principal:
    principal = await authenticated(request)
    require_role(principal, "ADMIN")
    return principal


def _keeper(request: AnyRequest) -> KeyKeeper:
    return cast("KeyKeeper", request.app.state.keeper)
