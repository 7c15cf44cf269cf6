"""The routes of the configuration (R1.140); ADMIN only."""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import get, put

from system.admin.domain.configuration import (
    DESCRIPTION_LIMIT,
    KEY_PATTERN,
    VALUE_LIMIT,
    Setting,
)
from system.admin.entrypoints.administrators import AnyRequest, administrator, uncached
from system.admin.service.configuration import Configuration
from system.platform.http import openapi
from system.platform.http.json_fields import JsonValue
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_body
from system.platform.http.shapes import ANY, MOMENT, TEXT, array, nullable, shape
from system.platform.http.text_fields import Matching, Text
from system.platform.http.validation import Schema, parse_all
from system.platform.moments import timestamp

KEY: Final = Schema(
    {"key": Matching(KEY_PATTERN, "Expected a key such as app.version", example="app.version")}
)
VALUE: Final = Schema(
    {
        "value": JsonValue(VALUE_LIMIT, example="1.0.0"),
        "description": Text(maximum=DESCRIPTION_LIMIT, optional=True, example="What is running"),
    }
)

SETTING: Final = shape(
    "Setting",
    {
        "key": TEXT,
        "value": ANY,
        "description": nullable(TEXT),
        "updatedAt": MOMENT,
        "updatedBy": nullable(TEXT),
    },
)
SETTINGS: Final = shape("Settings", {"config": array(SETTING)})


@get("/api/admin/config")
@operation("List the configuration", who=openapi.ADMIN, answers={200: SETTINGS})
async def list_config(request: AnyRequest) -> Reply:
    """Everything, by key."""
    await administrator(request)
    return uncached({"config": [setting_json(one) for one in await _configuration(request).all()]})


@get("/api/admin/config/{key:str}")
@operation(
    "Get a value of the configuration",
    who=openapi.ADMIN,
    path=KEY,
    answers={200: SETTING},
    errors={404: ["CONFIG_NOT_FOUND"]},
)
async def get_config(request: AnyRequest) -> Reply:
    """One value."""
    await administrator(request)
    wanted = KEY.parse(request.path_params)
    return uncached(setting_json(await _configuration(request).get(wanted["key"])))


@put("/api/admin/config/{key:str}")
@operation(
    "Create or replace a value of the configuration",
    who=openapi.ADMIN,
    path=KEY,
    body=VALUE,
    answers={200: SETTING},
)
async def set_config(request: AnyRequest) -> Reply:
    """Create or replace; a description that is not given is none."""
    principal = await administrator(request)
    path, given = parse_all((KEY, request.path_params), (VALUE, await json_body(request)))
    setting = await _configuration(request).set(
        path["key"],
        given["value"],
        given.get("description") or None,
        updated_by=principal.user_id,
    )
    return success(setting_json(setting))


ROUTES: Final = (list_config, get_config, set_config)


def setting_json(setting: Setting) -> dict[str, Any]:
    """A value as R1.140 shows it."""
    return {
        "key": setting.key,
        "value": setting.value,
        "description": setting.description,
        "updatedAt": timestamp(setting.updated_at),
        "updatedBy": setting.updated_by,
    }


def _configuration(request: AnyRequest) -> Configuration:
    return cast("Configuration", request.app.state.configuration)
