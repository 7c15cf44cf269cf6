"""R1.7-R1.17, R1.144-R1.151, R3.9: what requests may say, and how they are answered."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.platform.config.loading import load
from system.platform.events.catalogue import USER_LIFECYCLE
from system.platform.http import errors
from system.platform.http.app import create_app, described_routes
from system.platform.http.openapi import document
from system.platform.security.principal import Principal
from system.profile import domain
from system.profile.entrypoints import events
from system.profile.entrypoints.fields import Avatar
from system.profile.entrypoints.http import BODY_LIMIT, PROFILE, PROFILE_SHOWN, routes
from system.profile.entrypoints.http import PREFERENCES as PREFERENCES_BODY
from system.profile.service import Profiles, profile_json
from system.profile.tests.fakes import START, FakeCache, FakeStore, FakeUnit

PATH = "/api/profile"
PREFERENCES = "/api/profile/preferences"
ANN = {"Authorization": "ann"}
INTERNAL = "/internal/profile"
TOKEN = "internal-token"
_EMPTY = domain.Profile("p", "u", None, None, None, None, {}, START, START)


class FakeAuthenticator:
    """Takes the user's id for the token."""

    async def authenticate(self, header: str | None) -> Principal:
        if header is None:
            raise errors.unauthorized()
        return cast("Principal", SimpleNamespace(user_id=header, role="CUSTOMER"))


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def http(store: FakeStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the profile service."""

    async def up() -> None:
        return None

    app = create_app(
        load("profile", {"PROFILE_DATABASE_URL": "postgresql://p@h/profile_db"}),
        routes(TOKEN),
        checks={"database": up},
        state={
            "authenticator": FakeAuthenticator(),
            "profiles": Profiles(store, FakeCache()),
        },
    )
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://profile", headers=ANN
    ) as client:
        yield client


def image(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


PNG = image("png", b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
JPEG = image("jpeg", b"\xff\xd8\xff\xe0" + b"\0" * 20)
GIF = image("gif", b"GIF89a" + b"\0" * 20)
WEBP = image("webp", b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 8)


async def test_the_profile_object(http: httpx.AsyncClient, store: FakeStore) -> None:
    """R1.144: exactly these fields; X-Cache; fresh on request."""
    first = await http.get(PATH)
    second = await http.get(PATH)
    third = await http.get(PATH, headers={"Cache-Control": "no-cache"})

    assert [a.headers["x-cache"] for a in (first, second, third)] == ["MISS", "HIT", "BYPASS"]
    assert first.json()["data"] == {
        "id": "p0",
        "userId": "ann",
        "avatarUrl": None,
        "phone": None,
        "address": None,
        "bio": None,
        "preferences": {},
        "createdAt": "2026-01-17T10:00:01.000Z",
        "updatedAt": "2026-01-17T10:00:01.000Z",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("PUT", PATH), ("GET", PREFERENCES), ("PUT", PREFERENCES)],
)
async def test_nobody_without_a_token(http: httpx.AsyncClient, method: str, path: str) -> None:
    """R1.17: the token comes before the body."""
    del http.headers["authorization"]
    answer = await http.request(
        method, path, content=b"{", headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"phoneNumber": "+49 (30) 901-820"}, {"phone": "+49 (30) 901-820"}),
        ({"phone": "030.901/820"}, {"phone": "030.901/820"}),
        ({"phone": "0123456789", "phoneNumber": "0123456789"}, {"phone": "0123456789"}),
        ({"phone": None, "phoneNumber": ""}, {"phone": None}),
        ({"address": "  1 <b>High</b> Street "}, {"address": "1 High Street"}),
        ({"address": "x" * 500, "bio": "y" * 1000}, {"address": "x" * 500, "bio": "y" * 1000}),
        ({"bio": "<p>"}, {"bio": None}),
        ({"bio": "javascript:x"}, {"bio": "x"}),
        ({"avatarUrl": "https://x.test/a.png?b=c#d"}, {"avatarUrl": "https://x.test/a.png?b=c#d"}),
        *(({"avatarUrl": value}, {"avatarUrl": value}) for value in (PNG, JPEG, GIF, WEBP)),
        ({"unknown": 1}, {}),
        ({}, {}),
    ],
)
async def test_good_facts(
    http: httpx.AsyncClient, body: dict[str, Any], shown: dict[str, Any]
) -> None:
    """R1.146, R1.149, R1.150: in their normal form, in the answer and in the next read."""
    answer = await http.put(PATH, json=body)

    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert {name: data[name] for name in shown} == shown
    assert (await http.get(PATH)).json()["data"] == data


@pytest.mark.parametrize("empty", [None, ""])
async def test_clearing(http: httpx.AsyncClient, empty: str | None) -> None:
    """R1.149: null and "" clear a field."""
    names = ("phone", "address", "bio", "avatarUrl")
    full = {"phone": "0123456789", "address": "a", "bio": "b", "avatarUrl": PNG}
    await http.put(PATH, json=full)

    answer = await http.put(PATH, json=dict.fromkeys(names, empty))

    assert [answer.json()["data"][name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"phone": "012345678"}, ["phone"]),
        ({"phone": "0" * 21}, ["phone"]),
        ({"phone": "0123456789x"}, ["phone"]),
        ({"phone": "01234+56789"}, ["phone"]),
        ({"phone": "٠١٢٣٤٥٦٧٨٩"}, ["phone"]),
        ({"phoneNumber": 1234567890}, ["phoneNumber"]),
        ({"phone": "0123456789", "phoneNumber": "9876543210"}, ["phoneNumber"]),
        ({"phone": "0123456789", "phoneNumber": None}, ["phoneNumber"]),
        ({"address": " <b> "}, ["address"]),
        ({"address": "x" * 501}, ["address"]),
        ({"bio": "x" * 1001}, ["bio"]),
        ({"bio": 1}, ["bio"]),
        ({"avatarUrl": "http://x.test/a.png"}, ["avatarUrl"]),
        ({"avatarUrl": "javascript:alert(1)"}, ["avatarUrl"]),
        ({"avatarUrl": "https:"}, ["avatarUrl"]),
        ({"avatarUrl": "https:///a.png"}, ["avatarUrl"]),
        ({"avatarUrl": " https://x.test/a.png"}, ["avatarUrl"]),
        ({"avatarUrl": 'https://x.test/"><script>'}, ["avatarUrl"]),
        ({"avatarUrl": "https://x.test/" + "a" * 2034}, ["avatarUrl"]),
        ({"avatarUrl": "data:text/html;base64,PGI+"}, ["avatarUrl"]),
        ({"avatarUrl": image("svg+xml", b"<svg/>")}, ["avatarUrl"]),
        ({"avatarUrl": image("png", b"GIF89a")}, ["avatarUrl"]),
        ({"avatarUrl": image("webp", b"RIFF\x10\0\0\0WAVEfmt ")}, ["avatarUrl"]),
        ({"avatarUrl": PNG + "!"}, ["avatarUrl"]),
        ({"avatarUrl": "data:image/png;base64,"}, ["avatarUrl"]),
        ({"avatarUrl": PNG.replace(";base64", "")}, ["avatarUrl"]),
        ({"avatarUrl": 1}, ["avatarUrl"]),
    ],
)
async def test_bad_facts(
    http: httpx.AsyncClient, store: FakeStore, body: dict[str, Any], path: list[str]
) -> None:
    """R1.149, R1.150: 400 naming the field, and nothing is changed."""
    answer = await http.put(PATH, json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert [issue["path"] for issue in error["details"]] == [path]
    assert store.emitted == []


async def test_the_largest_image(http: httpx.AsyncClient) -> None:
    """R1.150: a payload of 2,796,204 characters is taken, four more are not."""
    head = b"\xff\xd8\xff"
    largest = image("jpeg", head + b"\0" * (domain.AVATAR_PAYLOAD_LIMIT // 4 * 3 - len(head)))
    assert len(largest.partition(",")[2]) == 2_796_204

    taken = await http.put(PATH, json={"avatarUrl": largest})
    refused = await http.put(PATH, json={"avatarUrl": largest + "AAAA"})

    assert (taken.status_code, refused.status_code) == (200, 400)


@pytest.mark.parametrize("path", [PATH, PREFERENCES])
async def test_the_largest_body(http: httpx.AsyncClient, path: str) -> None:
    """R1.10: 5,242,880 bytes are read, one more is 413."""
    frame = len(b'{"x":""}')
    headers = {"Content-Type": "application/json"}
    fits = b'{"x":"' + b"a" * (BODY_LIMIT - frame) + b'"}'

    taken = await http.put(path, content=fits, headers=headers)
    refused = await http.put(path, content=fits + b" ", headers=headers)

    assert (len(fits), taken.status_code) == (5_242_880, 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "body",
    [
        {"theme": "dark", "language": "en", "currency": "EUR", "timezone": "UTC"},
        {"theme": "system", "language": "pt-BR", "timezone": "Etc/GMT+5"},
        {"timezone": "America/Port-au-Prince", "notifications": {"push": False}},
        {"notifications": {"email": True, "push": True, "sms": False}},
    ],
)
async def test_good_preferences(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """R1.148, R1.151."""
    answer = await http.put(PREFERENCES, json=body)

    assert (answer.status_code, answer.json()["data"]) == (200, body)
    read = await http.get(PREFERENCES)
    assert (read.json()["data"], read.headers["x-cache"]) == (body, "MISS")
    assert (await http.get(PATH)).json()["data"]["preferences"] == body


async def test_currency_in_its_one_spelling(http: httpx.AsyncClient) -> None:
    """R1.151: upper-cased."""
    answer = await http.put(PREFERENCES, json={"currency": "eur"})

    assert answer.json()["data"] == {"currency": "EUR"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"theme": "Dark"}, ["theme"]),
        ({"theme": None}, ["theme"]),
        ({"language": "english"}, ["language"]),
        ({"language": "en-gb"}, ["language"]),
        ({"language": "EN"}, ["language"]),
        ({"currency": "XXX"}, ["currency"]),
        ({"timezone": "Mars/Olympus"}, ["timezone"]),
        ({"timezone": "localtime"}, ["timezone"]),
        ({"timezone": "europe/london"}, ["timezone"]),
        ({"notifications": True}, ["notifications"]),
        ({"notifications": {"email": "yes"}}, ["notifications", "email"]),
        ({"notifications": {"sms": None}}, ["notifications", "sms"]),
    ],
)
async def test_bad_preferences(
    http: httpx.AsyncClient, store: FakeStore, body: dict[str, Any], path: list[str]
) -> None:
    """R1.151: 400 naming the field, and nothing is changed."""
    answer = await http.put(PREFERENCES, json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert [issue["path"] for issue in error["details"]] == [path]
    assert store.emitted == []


def test_the_currencies() -> None:
    """R1.101: forty of them, each once."""
    assert len(domain.CURRENCIES) == len(set(domain.CURRENCIES)) == 40


def test_there_are_timezones() -> None:
    """R1.151: the machine has the database."""
    assert {"UTC", "Etc/GMT+5", "America/Port-au-Prince", "Asia/Kolkata"} <= domain.timezones()


async def test_the_only_event_it_handles() -> None:
    """R3.9, R3.42: all others of its queue are acknowledged without touching the database."""
    handlers = events.handlers(FakeCache(), lambda _: FakeUnit(FakeStore()))

    assert set(handlers) == {"user.deleted"}
    assert set(handlers) < USER_LIFECYCLE


async def test_everything_is_changed_in_one_go(http: httpx.AsyncClient, store: FakeStore) -> None:
    """For GraphQL: facts and preferences, by the rules of both routes, told once."""
    answer = await http.put(
        INTERNAL,
        json={"bio": "x", "phone": None, "preferences": {"theme": "dark"}},
        headers={"X-Internal-Token": TOKEN},
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == (await http.get(PATH)).json()["data"]
    assert answer.json()["data"]["preferences"] == {"theme": "dark"}
    assert store.emitted == [("ann", ["bio", "preferences"])]


@pytest.mark.parametrize("preferences", [{"theme": "pink", "currency": 1}, "dark", None])
async def test_of_a_change_in_one_go_all_is_checked_first(
    http: httpx.AsyncClient, store: FakeStore, preferences: Any
) -> None:
    """R1.16: the issues of both at once where they can be told, and nothing is done."""
    answer = await http.put(
        INTERNAL,
        json={"bio": 1, "preferences": preferences},
        headers={"X-Internal-Token": TOKEN},
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    paths = [issue["path"] for issue in answer.json()["error"]["details"]]
    if isinstance(preferences, dict):
        assert paths == [["bio"], ["theme"], ["currency"]]
    else:
        assert paths == [["preferences"]]
    assert store.profiles == {}


async def test_a_change_in_one_go_is_internal(http: httpx.AsyncClient) -> None:
    """R1.153: the gateway's word and the caller's are both needed."""
    refused = [await http.put(INTERNAL, json={"bio": "x"}, headers={"X-Internal-Token": "other"})]
    del http.headers["authorization"]
    refused += [await http.put(INTERNAL, json={"bio": "x"}, headers={"X-Internal-Token": TOKEN})]

    assert [answer.status_code for answer in refused] == [401, 401]


def test_the_routes_describe_themselves() -> None:
    """R1.154: four operations, with examples that are valid."""
    app = create_app(
        load("profile", {"PROFILE_DATABASE_URL": "postgresql://p@h/profile_db"}),
        routes(TOKEN),
        checks={},
        essential=(),
    )
    described = document(described_routes(app), "profile")

    assert {path: sorted(methods) for path, methods in described["paths"].items()} == {
        PATH: ["get", "put"],
        PREFERENCES: ["get", "put"],
    }
    assert PROFILE.accepts(PROFILE.example())
    assert set(PROFILE_SHOWN.members) == set(profile_json(_EMPTY))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_avatars_that_are_described_are_taken(data: st.DataObject) -> None:
    """R1.154: nothing that the description allows is refused."""
    described = data.draw(st.sampled_from(Avatar().json_schema()["anyOf"]))
    value = data.draw(st.from_regex(described["pattern"].removesuffix("$") + r"\Z"))

    assert domain.is_avatar(value)


def test_the_description_knows_one_phone() -> None:
    """R1.149, R1.154: it does not lead anybody to send two different numbers."""
    described = jsonschema_rs.Draft202012Validator(PROFILE.describe())
    for body in ({"phone": "+49 30 901820"}, {"phone": None, "phoneNumber": ""}):
        assert described.is_valid(body)
        assert PROFILE.accepts(body)
    assert not described.is_valid({"phone": "+49 30 901820", "phoneNumber": "+49 30 901821"})
    assert PREFERENCES_BODY.describe()["properties"]["timezone"]["enum"] == sorted(
        domain.timezones()
    )
