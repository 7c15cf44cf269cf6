"""The running profile-service as a client sees it through the gateway (1.13, 3.6, section 6)."""

from __future__ import annotations

import base64
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


def issues(answer: httpx.Response) -> set[str]:
    """The members that a request was refused for."""
    assert answer.status_code == 400, answer.text[:300]
    error = answer.json()["error"]
    assert error["code"] == "VALIDATION_ERROR"
    return {issue["path"][0] for issue in error["details"]}


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


@pytest.mark.parametrize("name", ["phone", "phoneNumber"])
def test_r1_149_a_telephone_number(person: Person, name: str) -> None:
    """By either name: 10 to 20 characters of its alphabet; null and "" clear it."""
    for number in ("0123456789", "+49 (30) 901-82/0.1", "0" * 20, "+" + "1" * 9):
        assert person.put({name: number}).json()["data"]["phone"] == number
        for empty in (None, ""):
            assert person.put({name: empty}).json()["data"]["phone"] is None
    for wrong in ("012345678", "0" * 21, "0123456789x", "01234+56789", "٠١٢٣٤٥٦٧٨٩", 1234567890):
        assert issues(person.put({name: wrong})) == {name}, wrong
    same, other = "0123456789", "9876543210"
    assert person.put({"phone": same, "phoneNumber": same}).json()["data"]["phone"] == same
    for second in (other, None, ""):
        both = person.put({"phone": same, "phoneNumber": second})
        assert (both.status_code, issues(both) <= {"phone", "phoneNumber"}) == (400, True)
    assert person.get().json()["data"]["phone"] == same


@pytest.mark.parametrize(("name", "longest"), [("address", 500), ("bio", 1000)])
def test_r1_149_address_and_bio(person: Person, name: str, longest: int) -> None:
    """Cleaned, then as long as they may be; null and "" clear a field, what is left out stays."""
    data = person.put({name: f" <b>{'x' * longest}</b> ", "phone": "0123456789"}).json()["data"]
    assert (data[name], data["phone"]) == ("x" * longest, "0123456789")
    assert issues(person.put({name: "x" * (longest + 1)})) == {name}
    assert issues(person.put({name: 1})) == {name}
    assert person.get().json()["data"][name] == "x" * longest
    for empty in (None, ""):
        assert person.put({name: "something"}).json()["data"][name] == "something"
        data = person.put({name: empty}).json()["data"]
        assert (data[name], data["phone"]) == (None, "0123456789")
    if name == "address":
        assert issues(person.put({name: " <b></b> "})) == {name}


def image(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


IMAGES = {
    "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 20,
    "jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 20,
    "gif": b"GIF89a" + b"\0" * 20,
    "webp": b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 8,
}


def test_r1_150_good_avatars(person: Person) -> None:
    """An https URL, or one of four kinds of image as data; null and "" clear it."""
    longest = "https://x.test/" + "a" * (2048 - 15)
    assert len(longest) == 2048
    for avatar in (
        "https://x.test/a.png?b=c#d",
        longest,
        *(image(kind, content) for kind, content in IMAGES.items()),
    ):
        assert person.put({"avatarUrl": avatar}).status_code == 200, avatar
        assert person.get().json()["data"]["avatarUrl"] == avatar
        for empty in (None, ""):
            assert person.put({"avatarUrl": empty}).json()["data"]["avatarUrl"] is None


@pytest.mark.parametrize(
    "avatar",
    [
        "http://x.test/a.png",
        "https:",
        "https://",
        "//x.test/a.png",
        "ftp://x.test/a.png",
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://x.test",
        " https://x.test/a.png",
        'https://x.test/"><script>',
        "https://x.test/\na.png",
        "https://x.test/" + "a" * 2034,
        "data:text/html;base64,PGI+",
        image("svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        image("png", b"<svg/>"),
        image("bmp", b"BM" + b"\0" * 30),
        *(image(kind, IMAGES["gif"]) for kind in ("png", "jpeg", "webp")),
        image("gif", IMAGES["png"]),
        image("webp", b"RIFF\x10\0\0\0WAVEfmt "),
        image("png", IMAGES["png"]) + "!",
        image("png", IMAGES["png"]).replace(";base64", ""),
        image("png", IMAGES["png"]).replace(";base64", ";charset=utf-8;base64"),
        "data:image/png;base64,",
        1,
        ["https://x.test/a.png"],
    ],
)
def test_r1_150_bad_avatars(person: Person, avatar: Any) -> None:
    """400, and the one before stays."""
    good = image("png", IMAGES["png"])
    person.put({"avatarUrl": good})

    answer = person.put({"avatarUrl": avatar})

    assert issues(answer) == {"avatarUrl"}
    assert person.get().json()["data"]["avatarUrl"] == good


def test_r1_150_the_largest_avatar(person: Person) -> None:
    """A payload of 2,796,204 characters is taken, four more are not."""
    largest = "data:image/jpeg;base64,/9j/" + "A" * (2_796_204 - 4)

    assert person.put({"avatarUrl": largest}).status_code == 200
    assert issues(person.put({"avatarUrl": largest + "AAAA"})) == {"avatarUrl"}
    assert person.get().json()["data"]["avatarUrl"] == largest


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
