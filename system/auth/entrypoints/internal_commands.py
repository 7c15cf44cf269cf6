"""The commands that admin-service gives to auth-service (R1.133, 1.14).

`X-Actor-Id`, `X-Actor-IP` and `X-Actor-User-Agent` say for whom it acts; what the headers tell
stands in the metadata of every event of the command (R3.11).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from litestar import Request, delete, patch, post, put

from system.auth.domain.accounts import UserRole, UserStatus
from system.auth.entrypoints.internal_user import internal_user
from system.auth.service.accounts import AccountCommands
from system.platform.http.client_address import normal_address
from system.platform.http.json_fields import Boolean
from system.platform.http.replies import Reply, created, deleted, success
from system.platform.http.requests import json_body
from system.platform.http.text_fields import Choice, Email, NewPassword, Text, Uuid
from system.platform.http.validation import Schema, at_least_one, parse_all
from system.platform.observability import correlation

AnyRequest = Request[Any, Any, Any]

_ACTOR_ID = "X-Actor-Id"
_USER_AGENT_CHARACTERS = 512

USER_ID = Schema({"id": Uuid()})
ACTOR = Schema({_ACTOR_ID: Uuid(optional=True)})
# Admin-service has cleaned the texts; doing so twice would be another order (R1.19).
CREATION = Schema(
    {
        "email": Email(),
        "password": NewPassword(),
        "name": Text(minimum=1, maximum=255, clean=False),
        "role": Choice(*UserRole),
    }
)
CHANGE = Schema(
    {
        "name": Text(minimum=1, maximum=255, clean=False, optional=True),
        "email": Email(optional=True),
    },
    rules=[at_least_one("name", "email")],
)
ROLE = Schema({"role": Choice(*UserRole)})
STATUS = Schema({"isActive": Boolean(), "reason": Text(maximum=500, clean=False, optional=True)})


@post("/users")
async def create_user(request: AnyRequest) -> Reply:
    """R1.128."""
    actor, given = await _read(request, CREATION)
    with _acting(request):
        account = await _accounts(request).create(
            email=given["email"],
            password=given["password"],
            name=given["name"],
            role=UserRole(given["role"]),
            actor_id=actor,
        )
    return created(internal_user(account))


@patch("/users/{id:str}")
async def update_user(request: AnyRequest) -> Reply:
    """R1.129."""
    actor, given = await _read(request, USER_ID, CHANGE)
    with _acting(request):
        account = await _accounts(request).update(
            given["id"], name=given.get("name"), email=given.get("email"), actor_id=actor
        )
    return success(internal_user(account))


@put("/users/{id:str}/role")
async def set_role(request: AnyRequest) -> Reply:
    """R1.130."""
    actor, given = await _read(request, USER_ID, ROLE)
    with _acting(request):
        account = await _accounts(request).set_role(
            given["id"], UserRole(given["role"]), actor_id=actor
        )
    return success(internal_user(account))


@put("/users/{id:str}/status")
async def set_status(request: AnyRequest) -> Reply:
    """R1.131."""
    actor, given = await _read(request, USER_ID, STATUS)
    status = UserStatus.ACTIVE if given["isActive"] else UserStatus.SUSPENDED
    with _acting(request):
        account = await _accounts(request).set_status(
            given["id"], status, reason=given.get("reason"), actor_id=actor
        )
    return success(internal_user(account))


# Litestar allows no body type at 204; the reply has its own status.
@delete("/users/{id:str}", status_code=200)
async def delete_user(request: AnyRequest) -> Reply:
    """R1.132."""
    actor, given = await _read(request, USER_ID)
    with _acting(request):
        await _accounts(request).delete(given["id"], actor_id=actor)
    return deleted()


COMMANDS = (create_user, update_user, set_role, set_status, delete_user)


async def _read(request: AnyRequest, *schemas: Schema) -> tuple[str | None, dict[str, Any]]:
    """Return the actor's id and all that path and body say, or name every fault at once."""
    sources: dict[Schema, Any] = {USER_ID: request.path_params}
    body = await json_body(request) if set(schemas) - {USER_ID} else {}
    actor = request.headers.get(_ACTOR_ID)
    parsed = parse_all(
        (ACTOR, {} if actor is None else {_ACTOR_ID: actor}),
        *((schema, sources.get(schema, body)) for schema in schemas),
    )
    given = {name: value for values in parsed[1:] for name, value in values.items()}
    return parsed[0].get(_ACTOR_ID), given


@contextmanager
def _acting(request: AnyRequest) -> Iterator[None]:
    """Let events name the actor's client instead of admin-service's."""
    agent = request.headers.get("X-Actor-User-Agent")
    context = dataclasses.replace(
        correlation.current(),
        client_address=normal_address(request.headers.get("X-Actor-IP", "")),
        user_agent=agent[:_USER_AGENT_CHARACTERS] if agent is not None else None,
    )
    token = correlation.bind(context)
    try:
        yield
    finally:
        correlation.unbind(token)


def _accounts(request: AnyRequest) -> AccountCommands:
    return cast("AccountCommands", request.app.state.accounts)
