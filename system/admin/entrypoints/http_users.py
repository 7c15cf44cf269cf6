"""The routes about users (R1.125-R1.132); ADMIN only."""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import delete, get, patch, post, put

from system.admin.domain.users import Role, Sort, Status, User, UserQuery
from system.admin.entrypoints.administrators import (
    AnyRequest,
    actor_of,
    administrator,
    pagination,
    uncached,
)
from system.admin.service.users import Users
from system.platform.http import openapi
from system.platform.http.json_fields import Boolean
from system.platform.http.numeric_fields import Integer
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply, created, deleted, success
from system.platform.http.requests import json_body, query
from system.platform.http.shapes import EMAIL, ID, MOMENT, PAGINATION, TEXT, array, one_of, shape
from system.platform.http.text_fields import Choice, Email, NewPassword, Text, Uuid
from system.platform.http.validation import Schema, at_least_one, parse_all
from system.platform.moments import timestamp

USER_ID: Final = Schema({"id": Uuid()})
LIST: Final = Schema(
    {
        "page": Integer(1, default=1),
        "limit": Integer(1, 100, default=10),
        "sort": Choice(*Sort, default=Sort.CREATED_AT.value),
        "order": Choice("asc", "desc", default="desc"),
        "role": Choice(*Role, optional=True),
        "status": Choice(*Status, optional=True),
        "search": Text(maximum=255, optional=True),
    }
)
CREATION: Final = Schema(
    {
        "email": Email(example="new@example.com"),
        "password": NewPassword(),
        "name": Text(1, 255, example="New User"),
        "role": Choice(*Role, example=Role.CUSTOMER.value),
    }
)
CHANGE: Final = Schema(
    {"name": Text(1, 255, optional=True, example="New Name"), "email": Email(optional=True)},
    [at_least_one("name", "email")],
)
ROLE: Final = Schema({"role": Choice(*Role, example=Role.VENDOR.value)})
STATUS: Final = Schema(
    {
        "isActive": Boolean(example=False),
        "reason": Text(maximum=500, optional=True, example="Under review"),
    }
)

USER: Final = shape(
    "AdminUser",
    {
        "id": ID,
        "email": EMAIL,
        "name": TEXT,
        "role": one_of(*Role),
        "status": one_of(*Status),
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
    },
)
USER_PAGE: Final = shape("AdminUserPage", {"users": array(USER), "pagination": PAGINATION})
_LAST_ADMIN: Final = {404: ["USER_NOT_FOUND"]}


def _guarded(act: str) -> dict[int, list[str]]:
    """The refusals of R1.135."""
    return {**_LAST_ADMIN, 403: [f"CANNOT_{act}_LAST_ADMIN", "CANNOT_MODIFY_SELF"]}


@get("/api/admin/users")
@operation("List users", who=openapi.ADMIN, query=LIST, answers={200: USER_PAGE})
async def list_users(request: AnyRequest) -> Reply:
    """R1.126."""
    await administrator(request)
    given = LIST.parse(query(request))
    page, limit = given["page"], given["limit"]
    role, status = given.get("role"), given.get("status")
    found, total = await _users(request).page(
        UserQuery(
            page=page,
            limit=limit,
            sort=Sort(given["sort"]),
            descending=given["order"] == "desc",
            role=None if role is None else Role(role),
            status=None if status is None else Status(status),
            search=given.get("search") or None,
        )
    )
    return uncached(
        {
            "users": [user_json(user) for user in found],
            "pagination": pagination(page, limit, total),
        }
    )


@get("/api/admin/users/{id:str}")
@operation(
    "Get a user",
    who=openapi.ADMIN,
    path=USER_ID,
    answers={200: USER},
    errors={404: ["USER_NOT_FOUND"]},
)
async def get_user(request: AnyRequest) -> Reply:
    """R1.127."""
    await administrator(request)
    wanted = USER_ID.parse(request.path_params)
    return uncached(user_json(await _users(request).get(wanted["id"])))


@post("/api/admin/users")
@operation(
    "Create a user",
    who=openapi.ADMIN,
    body=CREATION,
    answers={201: USER},
    errors={409: ["EMAIL_EXISTS"]},
    links={201: {"getUser": {"id": "data/id"}}},
)
async def create_user(request: AnyRequest) -> Reply:
    """R1.128."""
    principal = await administrator(request)
    given = CREATION.parse(await json_body(request))
    user = await _users(request).create(
        actor_of(principal),
        email=given["email"],
        password=given["password"],
        name=given["name"],
        role=Role(given["role"]),
    )
    return created(user_json(user))


@put("/api/admin/users/{id:str}")
@operation(
    "Change a user's name or e-mail address",
    who=openapi.ADMIN,
    path=USER_ID,
    body=CHANGE,
    answers={200: USER},
    errors={404: ["USER_NOT_FOUND"], 409: ["EMAIL_ALREADY_EXISTS"]},
)
async def update_user(request: AnyRequest) -> Reply:
    """R1.129."""
    principal = await administrator(request)
    path, given = await _path_and_body(request, CHANGE)
    user = await _users(request).change(actor_of(principal), path["id"], given)
    return success(user_json(user))


@put("/api/admin/users/{id:str}/role")
@operation(
    "Give a user another role",
    who=openapi.ADMIN,
    path=USER_ID,
    body=ROLE,
    answers={200: USER},
    errors=_guarded("DEMOTE"),
)
async def set_user_role(request: AnyRequest) -> Reply:
    """R1.130."""
    return await _set_role(request)


@patch("/api/admin/users/{id:str}/role")
@operation(
    "Give a user another role, as PUT does",
    who=openapi.ADMIN,
    path=USER_ID,
    body=ROLE,
    answers={200: USER},
    errors=_guarded("DEMOTE"),
)
async def change_user_role(request: AnyRequest) -> Reply:
    """R1.130."""
    return await _set_role(request)


@patch("/api/admin/users/{id:str}/status")
@operation(
    "Suspend a user, or let one in again",
    who=openapi.ADMIN,
    path=USER_ID,
    body=STATUS,
    answers={200: USER},
    errors=_guarded("SUSPEND"),
)
async def set_user_status(request: AnyRequest) -> Reply:
    """R1.131."""
    principal = await administrator(request)
    path, given = await _path_and_body(request, STATUS)
    user = await _users(request).set_active(
        actor_of(principal), path["id"], given["isActive"], given.get("reason") or None
    )
    return success(user_json(user))


# Litestar allows no body type at 204; the reply has its own status.
@delete("/api/admin/users/{id:str}", status_code=200)
@operation(
    "Delete a user",
    who=openapi.ADMIN,
    path=USER_ID,
    answers={204: None},
    errors=_guarded("DELETE"),
)
async def delete_user(request: AnyRequest) -> Reply:
    """R1.132."""
    principal = await administrator(request)
    wanted = USER_ID.parse(request.path_params)
    await _users(request).delete(actor_of(principal), wanted["id"])
    return deleted()


ROUTES: Final = (
    list_users,
    get_user,
    create_user,
    update_user,
    set_user_role,
    change_user_role,
    set_user_status,
    delete_user,
)


def user_json(user: User) -> dict[str, str]:
    """The admin user object, exactly these fields (R1.125)."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "status": user.status,
        "createdAt": timestamp(user.created_at or user.updated_at),
        "updatedAt": timestamp(user.updated_at),
    }


async def _set_role(request: AnyRequest) -> Reply:
    principal = await administrator(request)
    path, given = await _path_and_body(request, ROLE)
    role = Role(given["role"])
    user = await _users(request).set_role(actor_of(principal), path["id"], role)
    return success(user_json(user))


async def _path_and_body(
    request: AnyRequest, schema: Schema
) -> tuple[dict[str, Any], dict[str, Any]]:
    path, given = parse_all((USER_ID, request.path_params), (schema, await json_body(request)))
    return path, given


def _users(request: AnyRequest) -> Users:
    return cast("Users", request.app.state.users)
