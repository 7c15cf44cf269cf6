"""1.1 and 1.2 at the edge, at the gateway and at the services: what answers look like."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from system.conftest import RunningStack
from system.tests.desks import away
from system.tests.doors import CODES, DOORS, Caller, newcomer, refusal

pytestmark = pytest.mark.platform

UNKNOWN = "00000000-0000-4000-8000-00000000dead"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
JSON = {"Content-Type": "application/json"}
# What is no time though it ends like one, and no id of ours.
_NO_ID = {"deviceId", "pspTransactionId", "correlationId", "resourceId"}


@pytest.fixture
def nobody(well: RunningStack) -> Iterator[Caller]:
    """Without a token."""
    made = Caller(well)
    yield made
    made.close()


@pytest.fixture
def somebody(well: RunningStack) -> Iterator[Caller]:
    """A new customer."""
    made = newcomer(well)
    yield made
    made.close()


@pytest.fixture
def admin(well: RunningStack) -> Iterator[Caller]:
    """The seeded administrator."""
    made = Caller(well, well.account("admin"))
    yield made
    made.close()


def payment_to(recipient: str, **changes: Any) -> dict[str, Any]:
    body = {"type": "instant", "amount": "1.00", "currency": "USD", "description": "x"}
    return {**body, "recipientId": recipient, **changes}


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member of every object in a JSON value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


def test_r0_4_times_and_ids_have_one_form(
    well: RunningStack, somebody: Caller, admin: Caller
) -> None:
    """UTC with milliseconds and Z; UUIDs of version 4 in lower case; in every answer."""
    began = datetime.now(UTC)
    made = somebody.good("POST", "/api/payments", payment_to(admin.id))
    admin.good("PATCH", f"/api/payments/{made['id']}/status", {"status": "processing"})
    admin.good("PATCH", f"/api/payments/{made['id']}/status", {"status": "completed"})
    somebody.good("POST", "/api/auth/devices/register", {"deviceId": "form"})
    admin.good("PUT", "/api/admin/config/contract.form", {"value": 1})
    answers = [
        somebody.session,
        made,
        *(
            somebody.good("GET", path)
            for path in (
                *("/api/auth/me", "/api/auth/devices", "/api/auth/sessions", "/api/payments"),
                *(f"/api/payments/{made['id']}", "/api/payments/recipients", "/api/profile"),
            )
        ),
        *(
            admin.good("GET", path)
            for path in (
                *("/api/payments/reports", "/api/admin/users?limit=100", "/api/admin/config"),
                *("/api/admin/audit-logs?limit=100", "/api/admin/health"),
                *("/api/auth/admin/secrets/status", "/api/auth/admin/secrets/rotation-history"),
                *("/health", "/health/live", "/health/ready"),
            )
        ),
    ]
    seen = [pair for answer in answers for pair in members(answer) if isinstance(pair[1], str)]
    times = [pair for pair in seen if re.search(r"(At|^timestamp|^start|^end)$", pair[0])]
    ids = [
        pair
        for pair in seen
        if re.fullmatch(r"id|.*Id", pair[0]) and pair[0] not in _NO_ID and pair[1]
    ]
    assert {"createdAt", "updatedAt", "completedAt", "lastUsedAt", "expiresAt", "timestamp"} <= {
        name for name, _ in times
    }
    assert {"id", "userId", "senderId", "recipientId", "paymentId"} <= {name for name, _ in ids}
    assert [pair for pair in times if not MOMENT.fullmatch(pair[1])] == []
    assert [pair for pair in ids if not ID.fullmatch(pair[1])] == []
    moment = datetime.fromisoformat(made["createdAt"])
    assert abs(moment - began) < timedelta(seconds=30), "not UTC"


def test_r0_5_names_have_their_case(well: RunningStack, nobody: Caller) -> None:
    """Public paths, camelCase in JSON and queries, snake_case in databases."""
    document = nobody.ask("edge", "GET", "/api-docs.json").json()
    assert len(document["paths"]) > 30
    for path in document["paths"]:
        assert path.startswith(("/api/", "/health"))
    names = set()
    for name, value in members(document):
        if name == "properties":
            names |= set(value)
        if name == "parameters":
            # Not headers, whose names have no case.
            names |= {
                one["name"]
                for one in value
                if isinstance(one, dict) and one.get("in") in ("query", "path")
            }
    assert len(names) > 60
    assert [name for name in names if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", name)] == []
    for service in ("auth", "payments", "admin", "profile"):
        with psycopg.connect(well.database(service)) as db:
            stored = db.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
                "UNION SELECT column_name FROM information_schema.columns "
                "WHERE table_schema = 'public'"
            ).fetchall()
        assert len(stored) > 10
        assert [name for (name,) in stored if not re.fullmatch(r"[a-z][a-z0-9_]*", name)] == []


@pytest.mark.parametrize("door", DOORS)
def test_r1_3_what_is_deleted_says_nothing(
    well: RunningStack, somebody: Caller, admin: Caller, door: str
) -> None:
    """204 without a body: a session, a device, a user."""
    other = next(
        entry["id"] for entry in somebody.good("GET", "/api/auth/sessions") if not entry["current"]
    )
    leaver, payee = newcomer(well), newcomer(well)
    leaver.good("POST", "/api/auth/devices/register", {"deviceId": "old"})
    answers = [
        somebody.ask(door, "DELETE", f"/api/auth/sessions/{other}"),
        leaver.ask(door, "DELETE", "/api/auth/devices/old"),
        admin.ask(door, "DELETE", f"/api/admin/users/{payee.id}"),
    ]
    for caller in (leaver, payee):
        caller.close()
    for answer in answers:
        assert (answer.status_code, answer.content) == (204, b""), answer.text
        assert "content-type" not in answer.headers
        assert answer.headers.get("content-length", "0") == "0"


def enveloped(answer: httpx.Response) -> None:
    """Hold an answer to R1.1, R1.2, R1.5 and the closed set of R1.18."""
    where = f"{answer.request.method} {answer.request.url} → {answer.status_code} {answer.text}"
    assert re.fullmatch(
        r"application/json(; *charset=utf-8)?", answer.headers["content-type"], re.IGNORECASE
    ), where
    body = answer.json()
    if answer.is_success:
        assert set(body) == {"success", "data"}, where
        assert body["success"] is True, where
        return
    assert set(body) == {"success", "error"}, where
    assert body["success"] is False, where
    assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "details"}, where
    assert isinstance(body["error"]["message"], str), where
    assert body["error"]["code"] in CODES[answer.status_code], where


@pytest.mark.parametrize("door", DOORS)
def test_r1_4_every_answer_has_its_envelope(
    well: RunningStack, nobody: Caller, somebody: Caller, admin: Caller, door: str
) -> None:
    """Whatever comes of a request, and whoever answers it."""
    me = {"email": somebody.email, "password": "Newcomer-Pass-123!"}
    large = b'{"description":"' + b"x" * 102_400 + b'"}'
    config = f"/api/admin/config/contract.{uuid.uuid4()}"
    asked: list[tuple[int, httpx.Response]] = [
        (200, somebody.ask(door, "GET", "/api/auth/me")),
        (200, nobody.ask(door, "POST", "/api/auth/login", json=me)),
        (201, somebody.ask(door, "POST", "/api/payments", json=payment_to(admin.id))),
        (200, somebody.ask(door, "GET", "/api/payments")),
        (200, somebody.ask(door, "GET", "/api/profile")),
        (200, admin.ask(door, "GET", "/api/admin/users")),
        (200, admin.ask(door, "PUT", config, json={"value": None})),
        (400, somebody.ask(door, "POST", "/api/payments", json={})),
        (400, somebody.ask(door, "POST", "/api/payments", content=b"{", headers=JSON)),
        (400, somebody.ask(door, "POST", "/api/payments", json=payment_to(somebody.id))),
        (401, nobody.ask(door, "GET", "/api/payments")),
        (401, nobody.ask(door, "GET", "/api/profile", headers={"Authorization": "Bearer x"})),
        (401, nobody.ask(door, "POST", "/api/webhooks/payments", json={})),
        (403, somebody.ask(door, "GET", "/api/admin/users")),
        (404, somebody.ask(door, "GET", f"/api/payments/{UNKNOWN}")),
        (404, somebody.ask(door, "GET", "/api/auth/nothing")),
        (404, somebody.ask(door, "DELETE", "/api/auth/devices/none")),
        (404, admin.ask(door, "GET", f"/api/admin/users/{UNKNOWN}")),
        (409, nobody.ask(door, "POST", "/api/auth/register", json={**me, "name": "N"})),
        (413, somebody.ask(door, "POST", "/api/payments", content=large, headers=JSON)),
    ]
    for status, answer in asked:
        assert answer.status_code == status, f"{answer.request.url}: {answer.text}"
        enveloped(answer)
        if door != "service":
            assert answer.headers.get_list("cache-control") == ["no-store"]  # R1.5
    for base in [*well.services.values(), well.origin] if door == "service" else []:
        for path in ("/health", "/health/live", "/health/ready"):
            answer = httpx.get(base + path, verify=well.trust, timeout=10)
            assert answer.status_code == 200
            enveloped(answer)


def test_r1_4_what_edge_and_gateway_say_for_others(well: RunningStack, somebody: Caller) -> None:
    """A service that is away or silent, a gateway that is away, and a guesser who is stopped."""
    seen = set()

    def ask(door: str, path: str, *statuses: int) -> None:
        answer = somebody.ask(door, "GET", path)
        assert answer.status_code in statuses, answer.text
        enveloped(answer)
        seen.add((door, answer.status_code))

    with away(well, "profile"):
        for door in ("edge", "gateway"):
            ask(door, "/api/profile", 502)
    with away(well, "profile", "pause"):
        for door in ("edge", "gateway"):
            ask(door, "/api/profile", 504)
    with away(well, "gateway"):
        ask("edge", "/api/profile", 502, 503)
    assert {door for door, status in seen if status == 504} == {"edge", "gateway"}
    network = well.target["addresses"]["limited"].rpartition(".")[0]
    for base, host in ((well.services["gateway"], 217), (well.origin, 218)):
        transport = httpx.HTTPTransport(verify=well.trust, local_address=f"{network}.{host}")
        with httpx.Client(base_url=base, transport=transport, timeout=10) as guesser:
            body = {"refreshToken": "x"}
            answers = [guesser.post("/api/auth/refresh", json=body) for _ in range(12)]
        assert answers[-1].status_code == 429
        for answer in answers:
            enveloped(answer)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/auth/me HTTP/1.1\r\n\r\n",
        b"GET /api/auth/me HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"GET /api/auth/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /api/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/auth/me HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
    ids=["no host", "two hosts", "bad length", "bad escape", "long line", "long header"],
)
@pytest.mark.parametrize("door", ["edge", "gateway"])
def test_r1_4_requests_that_are_none(well: RunningStack, door: str, sent: bytes) -> None:
    """Refused in the same envelope, with the status that HTTP has for it."""
    url = urlsplit(well.origin if door == "edge" else well.services["gateway"])
    assert url.hostname is not None
    assert url.port is not None
    said = b""
    with socket.create_connection((url.hostname, url.port), 10) as plain:
        wrapped = (
            well.trust.wrap_socket(plain, server_hostname=url.hostname) if door == "edge" else plain
        )
        with wrapped, contextlib.suppress(ConnectionError, ssl.SSLError):
            # Who has seen enough may answer and hang up before the end.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                wrapped.sendall(sent)
            while part := wrapped.recv(65_536):
                said += part
                if b"}}" in said:
                    break
    head, _, body = said.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    assert status in (400, 404, 414, 431), head
    assert re.search(rb"(?im)^content-type: application/json", head), head
    text = re.search(rb"\{.*\}", body, re.DOTALL)
    assert text is not None, said
    told = json.loads(text[0])
    assert (set(told), told["success"]) == ({"success", "error"}, False)
    assert told["error"]["code"] in CODES.get(status, CODES[400])


READS = (
    *("/api/auth/me", "/api/auth/devices", "/api/auth/sessions", "/api/payments"),
    *("/api/payments/recipients", "/api/payments/reports", "/api/profile"),
    *("/api/profile/preferences", "/api/admin/users", "/api/admin/audit-logs"),
    *("/api/admin/audit-logs/actions", "/api/admin/config", "/api/admin/health"),
    *("/api/auth/admin/secrets/status", "/api/auth/admin/secrets/rotation-history"),
)


@pytest.mark.parametrize("path", READS)
def test_r1_7_unknown_parameters_are_ignored(admin: Caller, path: str) -> None:
    """Once, twice, empty or strange: the answer is a success as without them."""
    for query in ("nothing=1", "nothing=1&nothing=2", "nothing", "Page=0&LIMIT=x", "a[b]=%00"):
        answer = admin.ask("gateway", "GET", f"{path}?{query}")
        assert answer.status_code == 200, answer.text


def test_r1_7_unknown_members_are_ignored(
    well: RunningStack, somebody: Caller, admin: Caller
) -> None:
    """By every route that takes a body; they change nothing and are not shown."""
    more = {"unknown": {"a": [1]}, "id": "x", "isAdmin": True, "__proto__": 1}
    key = f"/api/admin/config/contract.{uuid.uuid4()}"
    email = f"{uuid.uuid4()}@x.test"
    account = {"email": email, "password": "Newcomer-Pass-123!", "name": "N", "role": "VENDOR"}
    made = somebody.good(
        "POST", "/api/payments", {**payment_to(admin.id), **more, "status": "completed"}
    )
    assert (made["status"], made["senderId"]) == ("pending", somebody.id)
    path = f"/api/payments/{made['id']}"
    user = admin.good("POST", "/api/admin/users", {**account, **more, "status": "suspended"})
    assert user["status"] == "active"
    person = f"/api/admin/users/{user['id']}"
    answers = [
        somebody.good("PUT", path, {**more, "amount": "2", "status": "completed"}),
        somebody.good("PATCH", f"{path}/status", {**more, "status": "cancelled", "amount": "9"}),
        somebody.good("PUT", "/api/profile", {**more, "bio": "b", "userId": admin.id}),
        somebody.good("PUT", "/api/profile/preferences", {**more, "theme": "dark"}),
        somebody.good("POST", "/api/auth/devices/register", {**more, "deviceId": "d"}),
        admin.good("PUT", person, {**more, "name": "M", "role": "ADMIN", "email": email}),
        admin.good("PATCH", f"{person}/role", {**more, "role": "CUSTOMER"}),
        admin.good("PATCH", f"{person}/status", {**more, "isActive": False, "role": "ADMIN"}),
        admin.good("PUT", key, {**more, "value": 1, "key": "other"}),
        somebody.good("POST", "/api/auth/logout", {**more, "everywhere": True}),
    ]
    assert answers[0]["status"] == "pending"
    assert (answers[1]["status"], answers[1]["amount"]) == ("cancelled", "2.00")
    assert answers[2]["userId"] == somebody.id
    assert answers[3] == {"theme": "dark"}
    assert answers[5]["role"] == "VENDOR"
    assert (answers[7]["role"], answers[7]["status"]) == ("CUSTOMER", "suspended")
    for answer in (*answers, made, user):
        assert not {"unknown", "isAdmin", "__proto__"} & set(answer)
        assert answer.get("id") != "x"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/payments?sort=id", None),
        ("GET", "/api/payments?page=1&page=1", None),
        ("GET", "/api/payments/reports?currency=x", None),
        ("GET", "/api/payments/reports?startDate=x", None),
        ("GET", "/api/admin/users?role=KING", None),
        ("GET", "/api/admin/users?search=" + "x" * 256, None),
        ("GET", "/api/admin/audit-logs?userId=x", None),
        ("GET", "/api/admin/audit-logs?resourceType=x", None),
        ("PUT", f"/api/payments/{UNKNOWN}", {"amount": "1", "type": "x"}),
        ("PATCH", f"/api/payments/{UNKNOWN}/status", {"status": "failed", "reason": 1}),
        ("PUT", f"/api/admin/users/{UNKNOWN}", {"name": "x", "email": "x"}),
        ("PATCH", f"/api/admin/users/{UNKNOWN}/status", {"isActive": True, "reason": 1}),
        ("PUT", "/api/admin/config/contract.x", {"value": 1, "description": 1}),
        ("PUT", "/api/profile", {"bio": "x", "address": 1}),
        ("PUT", "/api/profile/preferences", {"theme": "dark", "notifications": 1}),
        ("POST", "/api/auth/devices/register", {"deviceId": "d", "deviceType": "fridge"}),
        ("POST", "/api/auth/logout", {"logoutAll": "x"}),
        ("POST", "/api/auth/admin/secrets/rotate", {"reason": "x", "expiresInDays": "x"}),
    ],
)
def test_r1_7_known_ones_are_always_checked(
    admin: Caller, method: str, path: str, body: Any
) -> None:
    """Also those that may be left out, and before it is known whether there is such a thing."""
    answer = admin.ask("gateway", method, path, json=body)

    assert refusal(answer) == (400, "VALIDATION_ERROR")


# Route → what it says to a body that is absent: its refusal, or None where none is needed.
BODIES: dict[tuple[str, str], tuple[int, str] | None] = {
    ("POST", "/api/auth/register"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/auth/login"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/auth/refresh"): (401, "UNAUTHORIZED"),
    ("POST", "/api/auth/password"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/auth/devices/register"): (400, "DEVICE_ID_REQUIRED"),
    ("POST", "/api/auth/devices/logout-others"): (400, "DEVICE_ID_REQUIRED"),
    ("PATCH", "/api/auth/devices/d"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/auth/admin/secrets/rotate"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/payments"): (400, "VALIDATION_ERROR"),
    ("PUT", f"/api/payments/{UNKNOWN}"): (400, "VALIDATION_ERROR"),
    ("PATCH", f"/api/payments/{UNKNOWN}/status"): (400, "VALIDATION_ERROR"),
    ("POST", "/api/admin/users"): (400, "VALIDATION_ERROR"),
    ("PUT", f"/api/admin/users/{UNKNOWN}"): (400, "VALIDATION_ERROR"),
    ("PUT", f"/api/admin/users/{UNKNOWN}/role"): (400, "VALIDATION_ERROR"),
    ("PATCH", f"/api/admin/users/{UNKNOWN}/role"): (400, "VALIDATION_ERROR"),
    ("PATCH", f"/api/admin/users/{UNKNOWN}/status"): (400, "VALIDATION_ERROR"),
    ("PUT", "/api/admin/config/contract.x"): (400, "VALIDATION_ERROR"),
    ("PUT", "/api/profile"): None,
    ("PUT", "/api/profile/preferences"): None,
    ("POST", "/api/auth/logout"): None,
}


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_r1_9_what_is_no_json_object(admin: Caller, method: str, path: str) -> None:
    """400 for what claims to be one."""
    for content in (b"{", b"x", b"[]", b'"x"', b"1", b"null", b"\xff", b"{} {}", b'{"a":NaN}'):
        for media_type in ("application/json", "Application/JSON; charset=utf-8"):
            headers = {"Content-Type": media_type}
            answer = admin.ask("gateway", method, path, content=content, headers=headers)
            assert refusal(answer) == (400, "INVALID_JSON"), content


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize(("method", "path"), BODIES)
def test_r1_9_a_body_of_another_type_is_none(
    admin: Caller, method: str, path: str, media_type: str | None
) -> None:
    """What is said is what is said to no body at all."""
    headers = {} if media_type is None else {"Content-Type": media_type}

    answer = admin.ask("gateway", method, path, content=b"{", headers=headers)

    wanted = BODIES[method, path]
    if wanted is None:
        assert answer.status_code == 200
    else:
        assert refusal(answer) == wanted


def test_r1_9_a_signed_body_that_is_no_object(
    well: RunningStack, sign: Callable[[bytes], dict[str, str]], nobody: Caller
) -> None:
    """The signature comes first (R1.121), then the form."""
    for content in (b"{", b"[]", b"null"):
        answer = nobody.ask(
            "gateway", "POST", "/api/webhooks/payments", content=content, headers=sign(content)
        )
        assert refusal(answer) == (400, "INVALID_JSON")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/auth/nothing"),
        ("GET", "/api/auth"),
        ("GET", "/api/auth/login"),
        ("DELETE", "/api/auth/me"),
        ("PUT", "/api/auth/sessions/1"),
        ("GET", "/api/payments/x/y/z"),
        ("DELETE", "/api/payments/x"),
        ("PATCH", "/api/payments"),
        ("GET", "/api/webhooks/payments"),
        ("GET", "/api/admin/nothing"),
        ("POST", "/api/admin/config/a"),
        ("DELETE", "/api/profile"),
        ("TRACE", "/api/profile"),
        ("PROPFIND", "/api/profile"),
    ],
)
def test_r1_11_no_such_route(
    well: RunningStack, nobody: Caller, somebody: Caller, door: str, method: str, path: str
) -> None:
    """404 naming method and path without the query, with a token or without one."""
    bad = {"Authorization": "Bearer x"}
    answers = [
        nobody.ask(door, method, f"{path}?a=b&token=c"),
        somebody.ask(door, method, f"{path}?a=b&token=c"),
        nobody.ask(door, method, path, headers=bad),
    ]

    # A service that is asked directly knows no other path than its own.
    shown = answers[0].request.url.path
    for answer in answers:
        assert answer.status_code == 404, answer.text
        assert answer.json() == {
            "success": False,
            "error": {"code": "NOT_FOUND", "message": f"Route {method} {shown} not found"},
        }


@pytest.mark.parametrize("door", ["edge", "gateway"])
@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/health"])
def test_r1_11_no_such_service(nobody: Caller, somebody: Caller, door: str, path: str) -> None:
    """The same where no service has a name for it."""
    for caller in (nobody, somebody):
        answer = caller.ask(door, "GET", f"{path}?a=b")
        assert refusal(answer) == (404, "NOT_FOUND")
        assert answer.json()["error"]["message"] == f"Route GET {path} not found"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("service", "table", "path"),
    [
        ("auth", "devices", "/api/auth/devices"),
        ("payments", "payments", "/api/payments"),
        ("admin", "system_config", "/api/admin/config"),
        ("profile", "user_profiles", "/api/profile/preferences"),
    ],
)
def test_r1_15_anything_unexpected(
    well: RunningStack, admin: Caller, door: str, service: str, table: str, path: str
) -> None:
    """A table that is not there: one sentence and no reason; afterwards all is as before."""
    fresh = {"Cache-Control": "no-cache"}
    assert admin.ask(door, "GET", path, headers=fresh).status_code == 200
    with psycopg.connect(well.database(service), autocommit=True) as db:
        db.execute(f"ALTER TABLE {table} RENAME TO {table}_elsewhere")
        try:
            answer = admin.ask(door, "GET", path, headers=fresh)
        finally:
            db.execute(f"ALTER TABLE {table}_elsewhere RENAME TO {table}")

    assert answer.status_code == 500
    assert answer.json() == {
        "success": False,
        "error": {"code": "INTERNAL_ERROR", "message": "An unexpected error occurred"},
    }
    assert admin.ask(door, "GET", path, headers=fresh).status_code == 200
