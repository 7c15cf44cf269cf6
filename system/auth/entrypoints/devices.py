"""The routes by which users see and end their own sessions and devices (R1.86-R1.94)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from litestar import delete, get, patch, post

from system.auth.domain.accounts import Session
from system.auth.domain.devices import DEVICE_ID_PATTERN, Device, DeviceType
from system.auth.entrypoints.caller import AnyRequest, caller
from system.auth.service.own_sessions import OwnSessions
from system.platform.http import errors
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply, deleted, success
from system.platform.http.requests import json_body
from system.platform.http.shapes import (
    BOOLEAN,
    COUNT,
    ID,
    MOMENT,
    TEXT,
    array,
    nullable,
    one_of,
    shape,
)
from system.platform.http.text_fields import Choice, Matching, Text, Uuid
from system.platform.http.validation import Schema, parse_all
from system.platform.moments import timestamp
from system.platform.security.litestar import authenticated

_DEVICE_ID = Matching(DEVICE_ID_PATTERN, "Expected 1-128 of A-Z a-z 0-9 . _ -", example="browser-1")

REGISTRATION = Schema(
    {
        "deviceId": _DEVICE_ID,
        "deviceName": Text(minimum=1, maximum=100, optional=True, example="My browser"),
        "deviceType": Choice(*DeviceType, optional=True, example="browser"),
    }
)
DEVICE_PATH = Schema({"deviceId": _DEVICE_ID})
RENAMING = Schema({"deviceName": Text(minimum=1, maximum=100, example="My browser")})
OTHERS = Schema({"currentDeviceId": _DEVICE_ID})
SESSION_PATH = Schema({"id": Uuid(example="11111111-1111-4111-8111-111111111111")})

DEVICE = shape(
    "Device",
    {
        "id": ID,
        "userId": ID,
        "deviceId": TEXT,
        "deviceName": nullable(TEXT),
        "deviceType": one_of(*DeviceType),
        "userAgent": nullable(TEXT),
        "lastActiveAt": MOMENT,
        "createdAt": MOMENT,
        "current": BOOLEAN,
    },
)
SESSION = shape(
    "Session",
    {
        "id": ID,
        "deviceId": nullable(TEXT),
        "deviceName": nullable(TEXT),
        "ipAddress": nullable(TEXT),
        "userAgent": nullable(TEXT),
        "createdAt": MOMENT,
        "lastUsedAt": MOMENT,
        "expiresAt": MOMENT,
        "current": BOOLEAN,
    },
)
LOGGED_OUT = shape("LoggedOutOthers", {"loggedOutCount": COUNT})


@get("/auth/devices")
@operation("List the own devices", answers={200: array(DEVICE)})
async def list_devices(request: AnyRequest) -> Reply:
    """R1.88."""
    principal = await authenticated(request)
    devices, current = await _own(request).devices(principal.claims)
    return success([device_json(device, device.device_id == current) for device in devices])


@post("/auth/devices/register")
@operation(
    "Register a device and bind the calling session to it",
    body=REGISTRATION,
    answers={200: DEVICE},
    errors={400: ["DEVICE_ID_REQUIRED"]},
)
async def register_device(request: AnyRequest) -> Reply:
    """R1.89."""
    principal = await authenticated(request)
    body = await json_body(request)
    _require(body, "deviceId")
    given = REGISTRATION.parse(body)
    device_type = given.get("deviceType")
    device = await _own(request).register_device(
        principal.claims,
        given["deviceId"],
        name=given.get("deviceName"),
        type=DeviceType(device_type) if device_type is not None else None,
        caller=caller(),
    )
    return success(device_json(device, current=True))


@patch("/auth/devices/{deviceId:str}")
@operation(
    "Name a device",
    path=DEVICE_PATH,
    body=RENAMING,
    answers={200: DEVICE},
    errors={404: ["DEVICE_NOT_FOUND"]},
)
async def rename_device(request: AnyRequest) -> Reply:
    """R1.90."""
    principal = await authenticated(request)
    path, given = parse_all(
        (DEVICE_PATH, request.path_params), (RENAMING, await json_body(request))
    )
    device, current = await _own(request).name_device(
        principal.claims, path["deviceId"], given["deviceName"]
    )
    return success(device_json(device, current))


# Litestar allows no body type at 204; the reply has its own status.
@delete("/auth/devices/{deviceId:str}", status_code=200)
@operation(
    "Remove a device and end its sessions",
    path=DEVICE_PATH,
    answers={204: None},
    errors={404: ["DEVICE_NOT_FOUND"]},
)
async def remove_device(request: AnyRequest) -> Reply:
    """R1.91."""
    principal = await authenticated(request)
    path = DEVICE_PATH.parse(request.path_params)
    await _own(request).remove_device(principal.claims, path["deviceId"])
    return deleted()


@post("/auth/devices/logout-others")
@operation(
    "End every other session and remove every other device",
    body=OTHERS,
    answers={200: LOGGED_OUT},
    errors={400: ["DEVICE_ID_REQUIRED"], 404: ["DEVICE_NOT_FOUND"]},
)
async def logout_others(request: AnyRequest) -> Reply:
    """R1.92."""
    principal = await authenticated(request)
    body = await json_body(request)
    _require(body, "currentDeviceId")
    given = OTHERS.parse(body)
    count = await _own(request).logout_others(principal.claims, given["currentDeviceId"])
    return success({"loggedOutCount": count})


@get("/auth/sessions")
@operation("List the own open sessions", answers={200: array(SESSION)})
async def list_sessions(request: AnyRequest) -> Reply:
    """R1.93."""
    principal = await authenticated(request)
    sessions = await _own(request).sessions(principal.claims)
    return success(
        [session_json(session, session.id == principal.session_id) for session in sessions]
    )


@delete("/auth/sessions/{id:str}", status_code=200)
@operation(
    "End one of the own sessions",
    path=SESSION_PATH,
    answers={204: None},
    errors={404: ["SESSION_NOT_FOUND"]},
)
async def end_session(request: AnyRequest) -> Reply:
    """R1.93."""
    principal = await authenticated(request)
    path = SESSION_PATH.parse(request.path_params)
    await _own(request).end_session(principal.claims, path["id"])
    return deleted()


ROUTES = (
    list_devices,
    register_device,
    rename_device,
    remove_device,
    logout_others,
    list_sessions,
    end_session,
)


def device_json(device: Device, current: bool) -> dict[str, Any]:
    """R1.86."""
    return {
        "id": device.id,
        "userId": device.user_id,
        "deviceId": device.device_id,
        "deviceName": device.name,
        "deviceType": str(device.type),
        "userAgent": device.user_agent,
        "lastActiveAt": timestamp(device.last_active_at),
        "createdAt": timestamp(device.created_at),
        "current": current,
    }


def session_json(session: Session, current: bool) -> dict[str, Any]:
    """R1.87."""
    return {
        "id": session.id,
        "deviceId": session.device_id,
        "deviceName": session.device_name,
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
        "createdAt": timestamp(session.created_at),
        "lastUsedAt": timestamp(session.last_used_at or session.created_at),
        "expiresAt": timestamp(session.expires_at),
        "current": current,
    }


def _require(body: Mapping[str, Any], member: str) -> None:
    """Refuse a body that names no device, which has a code of its own (R1.89, R1.92)."""
    if body.get(member) in (None, ""):
        raise errors.ApiError(400, "DEVICE_ID_REQUIRED", f"{member} is required")


def _own(request: AnyRequest) -> OwnSessions:
    return cast("OwnSessions", request.app.state.own_sessions)
