"""The routes of the profile service (1.13): everybody's own profile, nobody else's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import msgspec
from litestar import Request, Router, get, put

from system.platform.cache.answers import Answer
from system.platform.http.errors import Issue
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_body, wants_fresh
from system.platform.http.shapes import BOOLEAN, ID, MOMENT, TEXT, nullable, one_of, shape
from system.platform.http.text_fields import Choice, Matching, Text
from system.platform.http.validation import DescribedRule, Schema, broken, parse_all
from system.platform.security.litestar import authenticated, internal_only
from system.profile import domain
from system.profile.entrypoints.fields import CLEARED, Avatar, Channels, Clearable, Phone, Timezone
from system.profile.service import Profiles, profile_json

AnyRequest = Request[Any, Any, Any]

# R1.10: an avatar may come inside the body.
BODY_LIMIT: Final = 5_242_880

_PHONE: Final = Clearable(Phone(), optional=True)


def _one_phone(values: Mapping[str, Any]) -> Iterable[Issue]:
    first, second = values.get("phone"), values.get("phoneNumber")
    if first is not None and second is not None and first != second:
        yield Issue(("phoneNumber",), "custom", "Differs from phone, which names the same field")


_BOTH: Final = ["phone", "phoneNumber"]
_BOTH_CLEARED: Final = {"properties": {key: {"enum": [None, ""]} for key in _BOTH}}

PROFILE: Final = Schema(
    {
        "phoneNumber": _PHONE,
        "phone": replace(_PHONE, example="+49 30 901820"),
        "address": Clearable(Text(1, domain.ADDRESS_LIMIT), optional=True, example="1 High Street"),
        "avatarUrl": Clearable(Avatar(), optional=True, example="https://example.com/me.png"),
        "bio": Clearable(Text(maximum=domain.BIO_LIMIT), optional=True, example="Likes to pay"),
    },
    # The description knows one of the two; equal values of both are taken as well.
    [DescribedRule(_one_phone, {"anyOf": [{"not": {"required": _BOTH}}, _BOTH_CLEARED]})],
)
PREFERENCES: Final = Schema(
    {
        "theme": Choice(*domain.THEMES, optional=True, example="dark"),
        "language": Matching(
            domain.LANGUAGE_PATTERN,
            "Expected a language such as en or en-GB",
            optional=True,
            example="en-GB",
        ),
        "currency": Choice(*domain.CURRENCIES, upper=True, optional=True, example="EUR"),
        "notifications": Channels(optional=True, example={"email": True, "sms": False}),
        "timezone": Timezone(optional=True, example="Europe/London"),
    }
)

CHANNELS_SHOWN: Final = shape(
    "NotificationChannels", dict.fromkeys(domain.CHANNELS, BOOLEAN), optional=domain.CHANNELS
)
PREFERENCES_SHOWN: Final = shape(
    "Preferences",
    {
        "theme": one_of(*domain.THEMES),
        "language": TEXT,
        "currency": one_of(*domain.CURRENCIES),
        "notifications": CHANNELS_SHOWN,
        "timezone": TEXT,
    },
    optional=PREFERENCES.fields,
)
PROFILE_SHOWN: Final = shape(
    "Profile",
    {
        "id": ID,
        "userId": ID,
        "avatarUrl": nullable(TEXT),
        "phone": nullable(TEXT),
        "address": nullable(TEXT),
        "bio": nullable(TEXT),
        "preferences": PREFERENCES_SHOWN,
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
    },
)


@get("/api/profile")
@operation("Get the own profile", answers={200: PROFILE_SHOWN})
async def get_profile(request: AnyRequest) -> Reply:
    """R1.145."""
    principal = await authenticated(request)
    answer = await _profiles(request).read(principal.user_id, fresh=wants_fresh(request))
    return _cached(answer)


@put("/api/profile")
@operation("Change the own profile", body=PROFILE, answers={200: PROFILE_SHOWN})
async def update_profile(request: AnyRequest) -> Reply:
    """R1.146."""
    principal = await authenticated(request)
    given = PROFILE.parse(await json_body(request, BODY_LIMIT))
    changed = await _profiles(request).change(principal.user_id, facts(given))
    return success(profile_json(changed))


@get("/api/profile/preferences")
@operation("Get the own preferences", answers={200: PREFERENCES_SHOWN})
async def get_preferences(request: AnyRequest) -> Reply:
    """R1.147."""
    principal = await authenticated(request)
    profiles = _profiles(request)
    answer = await profiles.read_preferences(principal.user_id, fresh=wants_fresh(request))
    return _cached(answer)


@put("/api/profile/preferences")
@operation("Change some of the own preferences", body=PREFERENCES, answers={200: PREFERENCES_SHOWN})
async def update_preferences(request: AnyRequest) -> Reply:
    """R1.148."""
    principal = await authenticated(request)
    given = PREFERENCES.parse(await json_body(request, BODY_LIMIT))
    changed = await _profiles(request).change(principal.user_id, preferences=given)
    return success(changed.preferences)


@put("/profile")
async def update_all(request: AnyRequest) -> Reply:
    """Facts as R1.146 and `preferences` as R1.148 in one go, for GraphQL; of the caller's own."""
    principal = await authenticated(request)
    given = await json_body(request, BODY_LIMIT)
    preferences = given.get("preferences", {})
    if not isinstance(preferences, dict):
        raise broken("preferences", "invalid_type", "Expected object")
    wanted, merging = parse_all((PROFILE, given), (PREFERENCES, preferences))
    changed = await _profiles(request).change(principal.user_id, facts(wanted), merging)
    return success(profile_json(changed))


def routes(internal_token: str) -> list[Any]:
    """Return the service's routes, the internal one behind its guard (R1.153)."""
    internal = Router(
        "/internal", route_handlers=[update_all], guards=[internal_only(internal_token)]
    )
    return [get_profile, update_profile, get_preferences, update_preferences, internal]


def facts(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what was given by attribute of `Profile`; None clears (R1.149)."""
    named = {
        "avatar_url": given.get("avatarUrl"),
        "phone": given.get("phone", given.get("phoneNumber")),
        "address": given.get("address"),
        "bio": given.get("bio"),
    }
    # Free text of which cleaning left nothing (R1.19) is cleared as well.
    return {
        name: None if value == CLEARED else value
        for name, value in named.items()
        if value is not None
    }


def _cached(answer: Answer) -> Reply:
    return success(msgspec.Raw(answer.body), headers={"X-Cache": answer.outcome.value})


def _profiles(request: AnyRequest) -> Profiles:
    return cast("Profiles", request.app.state.profiles)
