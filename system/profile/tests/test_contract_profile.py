"""The running profile-service as a client sees it through the gateway (1.13, 3.6, section 6)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpx
import pika
import psycopg
import pytest

from system.platform.events.envelope import new_event

pytestmark = pytest.mark.platform

PASSWORD = "Newcomer-Pass-123!"
PROFILE = "/api/profile"
PREFERENCES = "/api/profile/preferences"


class Stack(Protocol):
    """What these tests use of the fixture `stack`."""

    target: dict[str, Any]
    services: dict[str, str]
    exempt: str

    def control(self, part: str, action: str) -> None: ...
    def database(self, service: str) -> str: ...
    def until_ready(self, seconds: float = 30.0) -> None: ...


class Person:
    """Somebody who has just registered, calling the gateway from an address without limits."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.Client(
            base_url=stack.services["gateway"],
            transport=httpx.HTTPTransport(local_address=stack.exempt),
            timeout=10,
        )
        self.email = f"{uuid.uuid4()}@x.test"
        body = {"email": self.email, "password": PASSWORD, "name": "P"}
        answer = self.http.post("/api/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        data = answer.json()["data"]
        self.id: str = data["user"]["id"]
        self.http.headers["Authorization"] = f"Bearer {data['accessToken']}"

    def get(self, path: str = PROFILE, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def put(self, body: Any, path: str = PROFILE, **headers: str) -> httpx.Response:
        return self.http.put(path, json=body, headers=headers)

    def rows(self, service: str, sql: str) -> list[Any]:
        """Ask a service's database about this person."""
        with psycopg.connect(self.stack.database(service)) as db:
            return db.execute(sql, {"id": self.id}).fetchall()


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    made = Person(stack)
    yield made
    made.http.close()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.05)


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("X-Cache")


def test_r1_144_r1_145_the_first_read_makes_the_profile(person: Person) -> None:
    """Twenty first reads at once see one profile with nulls and no preferences."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: person.get(), range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    shown = answers[0].json()["data"]
    names = ("id", "userId", "avatarUrl", "phone", "address", "bio", "preferences")
    assert set(shown) == {*names, "createdAt", "updatedAt"}
    assert (shown["userId"], shown["preferences"], shown["bio"]) == (person.id, {}, None)
    assert person.rows("profile", "SELECT count(*) FROM user_profiles WHERE user_id = %(id)s") == [
        (1,)
    ]


def test_r1_146_a_change_is_seen_by_the_next_read(person: Person) -> None:
    """R6.5: the cached answer goes with the write; others stay as they are."""
    assert outcome(person.get()) == (200, "MISS")
    assert outcome(person.get()) == (200, "HIT")

    changed = person.put({"phoneNumber": "+49 30 901820", "bio": "<i>Hi</i>"})

    after = person.get()
    assert outcome(after) == (200, "MISS")
    assert after.json() == changed.json()
    assert (after.json()["data"]["phone"], after.json()["data"]["bio"]) == ("+49 30 901820", "Hi")
    assert after.json()["data"]["updatedAt"] > after.json()["data"]["createdAt"]
    assert outcome(person.get(**{"Cache-Control": "no-cache"})) == (200, "BYPASS")


def test_r1_147_r1_148_r1_151_preferences_are_merged(person: Person) -> None:
    """A channel not named keeps its value; both reads show the result."""
    assert person.get(PREFERENCES).json()["data"] == {}
    person.put({"notifications": {"email": True, "push": True}, "theme": "dark"}, PREFERENCES)
    merged = person.put({"notifications": {"push": False}, "currency": "eur"}, PREFERENCES)

    wanted = {
        "theme": "dark",
        "currency": "EUR",
        "notifications": {"email": True, "push": False},
    }
    assert merged.json()["data"] == wanted
    assert person.get(PREFERENCES).json()["data"] == wanted
    assert person.get().json()["data"]["preferences"] == wanted


def test_r1_151_changes_at_once_are_all_kept(person: Person) -> None:
    """Each names something else, and none overwrites another; one event for each (R1.152)."""
    changes: list[dict[str, Any]] = [
        {"theme": "light"},
        {"language": "de"},
        {"currency": "CHF"},
        {"timezone": "Europe/Zurich"},
        *({"notifications": {channel: True}} for channel in ("email", "push", "sms")),
    ]
    with ThreadPoolExecutor(len(changes)) as pool:
        answers = list(pool.map(lambda change: person.put(change, PREFERENCES), changes))

    assert [answer.status_code for answer in answers] == [200] * len(changes)
    assert person.get(PREFERENCES).json()["data"] == {
        "theme": "light",
        "language": "de",
        "currency": "CHF",
        "timezone": "Europe/Zurich",
        "notifications": {"email": True, "push": True, "sms": True},
    }
    told = "SELECT count(*) FROM outbox WHERE envelope->'data'->>'userId' = %(id)s"
    assert person.rows("profile", told) == [(len(changes),)]


def test_r1_8_r1_16_bad_input_names_every_issue(person: Person) -> None:
    """400, all issues at once, nothing changed."""
    answer = person.put({"phone": "x", "avatarUrl": "javascript:alert(1)", "bio": "y" * 1001})

    assert answer.status_code == 400
    details = answer.json()["error"]["details"]
    assert {issue["path"][0] for issue in details} == {"phone", "avatarUrl", "bio"}
    assert person.get().json()["data"]["bio"] is None


def test_r1_10_an_image_of_megabytes_passes_the_gateway(person: Person) -> None:
    """R1.150: the largest image is kept; a body above 5 MB is 413."""
    image = "data:image/jpeg;base64,/9j/" + "A" * (2_796_204 - 4)
    taken = person.put({"avatarUrl": image})
    refused = person.put({"bio": "x", "pad": "y" * 5_242_880})

    assert taken.status_code == 200, taken.text[:300]
    assert person.get().json()["data"]["avatarUrl"] == image
    assert person.get(**{"Cache-Control": "no-cache"}).json()["data"]["avatarUrl"] == image
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_r1_152_r3_39_a_change_is_told_once(person: Person) -> None:
    """`profile.updated` names the fields and who acted; no event without a change."""
    person.put({"bio": "x", "phone": "0123456789"}, **{"X-Correlation-ID": "c-profile"})
    person.put({"bio": "x"})
    person.put({"theme": "dark"}, PREFERENCES)

    rows = person.rows(
        "profile",
        "SELECT routing_key, envelope FROM outbox "
        "WHERE envelope->'data'->>'userId' = %(id)s ORDER BY seq",
    )

    assert [key for key, _ in rows] == ["profile.profile.updated"] * 2
    assert [sorted(envelope["data"]["fields"]) for _, envelope in rows] == [
        ["bio", "phone"],
        ["preferences"],
    ]
    metadata = rows[0][1]["metadata"]
    assert (metadata["actorId"], metadata["ipAddress"]) == (person.id, person.stack.exempt)
    assert (metadata["correlationId"], metadata["eventType"]) == ("c-profile", "profile_lifecycle")
    assert "0123456789" not in json.dumps([envelope for _, envelope in rows])


def test_r3_43_a_change_is_audited(person: Person) -> None:
    """One PROFILE_UPDATED row, within 5 s, about the user."""
    person.put({"bio": "x"})

    def found() -> list[Any]:
        return person.rows(
            "admin",
            "SELECT action, resource_type, resource_id, ip_address, details->>'source' "
            "FROM audit_logs WHERE user_id = %(id)s AND action = 'PROFILE_UPDATED'",
        )

    until(lambda: bool(found()))
    assert found() == [
        ("PROFILE_UPDATED", "user", person.id, person.stack.exempt, "profile_service_event")
    ]


def test_r1_29_the_service_checks_tokens_itself(person: Person) -> None:
    """Without a token 401 at gateway and service port alike."""
    for base in (person.stack.services["gateway"], person.stack.services["profile"]):
        answer = httpx.get(base + PROFILE, timeout=10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")


def test_r6_9_without_redis_from_the_database(stack: Stack, person: Person) -> None:
    """BYPASS with the same body; what was written meanwhile is seen when Redis is back."""
    first = person.get()
    stack.control("redis", "stop")
    try:
        assert person.put({"bio": "meanwhile"}).status_code == 200
        assert outcome(person.get()) == (200, "BYPASS")
    finally:
        stack.control("redis", "start")
    stack.until_ready()

    def cached() -> bool:
        answer = person.get()
        assert answer.json()["data"]["bio"] == "meanwhile"
        return outcome(answer) == (200, "HIT")

    until(cached, 15)
    assert first.json()["data"]["bio"] is None


def test_r1_152_r3_42_the_profile_goes_with_its_user(stack: Stack, person: Person) -> None:
    """`user.deleted` removes it, twice without harm, and a late read does not bring it back."""
    person.put({"bio": "x"})
    data = {
        "userId": person.id,
        "email": person.email,
        "userVersion": 2,
        "deletedAt": "2026-01-17T10:00:00.000Z",
    }
    event = new_event("user.deleted", data, source="auth-service", actor_id=person.id)
    connection = pika.BlockingConnection(pika.URLParameters(stack.target["access"]["amqp"]["url"]))
    channel = connection.channel()
    for _ in range(2):
        channel.basic_publish(
            "events",
            event.routing_key,
            event.encode(),
            pika.BasicProperties(delivery_mode=2, message_id=event.id, type=event.type),
        )
    connection.close()
    count = "SELECT count(*) FROM user_profiles WHERE user_id = %(id)s"
    until(lambda: person.rows("profile", count) == [(0,)])

    late = person.get()

    assert (late.status_code, late.json()["error"]["code"]) == (401, "TOKEN_REVOKED")
    assert person.rows("profile", count) == [(0,)]
