"""Section 6 as clients of the edge see it, and its entries as they lie in Redis."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

from system.platform.cache.tests.people import PASSWORD, People, Person, redis_of, until, webhook

pytestmark = pytest.mark.platform

CACHED = [
    "/api/auth/me",
    "/api/payments",
    "/api/payments/recipients",
    "/api/profile",
    "/api/profile/preferences",
]


@pytest.fixture
def people(stack: Any) -> Iterator[People]:
    found = People(stack)
    yield found
    found.close()


@pytest.fixture
def redis(stack: Any) -> Iterator[Redis]:
    client = redis_of(stack)
    yield client
    client.close()


def body_of(entry: bytes) -> bytes:
    """What an entry serves: behind its epoch and its note."""
    return entry[18 + int.from_bytes(entry[16:18]) :]


def contents(redis: Redis, key: bytes) -> bytes:
    """Everything a key of Redis holds, whatever its type."""
    read: dict[bytes | str, Callable[[bytes], Any]] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"zset": lambda name: redis.zrange(name, 0, -1),
        b"list": lambda name: redis.lrange(name, 0, -1),
        b"none": lambda _: b"",  # it has just expired
    }
    return flat(read[redis.type(key)](key))


def flat(value: Any) -> bytes:
    """All bytes of an answer of Redis."""
    if isinstance(value, dict):
        return flat([part for pair in value.items() for part in pair])
    if isinstance(value, list | set):
        return b"\n".join(flat(part) for part in value)
    return value if isinstance(value, bytes) else b""


@pytest.mark.parametrize("path", CACHED)
def test_r6_1_r6_2_the_second_read_is_a_hit(people: People, path: str) -> None:
    """MISS or HIT first, then HIT with the same body; no answer of another kind has the header."""
    person = people.newcomer()
    first = person.get(path)
    assert first.status_code == 200
    assert first.headers["X-Cache"] == "MISS"
    hit = person.warm(path)
    again = person.get(path)
    assert (again.headers["X-Cache"], again.content) == ("HIT", hit.content)


def test_r6_1_administration_is_never_cached(people: People) -> None:
    """BYPASS at each of two equal requests, and no entry of it lies in Redis."""
    admin = people.member("admin")
    for path in ("/api/admin/users", f"/api/admin/users/{admin.id}", "/api/admin/config"):
        for _ in range(2):
            answer = admin.get(path)
            assert (answer.status_code, answer.headers["X-Cache"]) == (200, "BYPASS"), path


@pytest.mark.parametrize("path", CACHED)
def test_r6_3_no_cache_reads_the_database(people: People, path: str) -> None:
    """BYPASS, though an entry is there."""
    person = people.newcomer()
    hit = person.warm(path)
    fresh = person.get(path, fresh=True)
    assert (fresh.headers["X-Cache"], fresh.json()) == ("BYPASS", hit.json())


def test_r6_4_each_parameter_has_an_entry_of_its_own(people: People) -> None:
    """What can differ in its answer is never served from another's entry; spellings are one."""
    person = people.newcomer()
    plain = "/api/payments"
    person.warm(plain)
    for parameter in (
        "page=2",
        "limit=9",
        "sort=amount",
        "order=asc",
        "status=pending",
        "type=instant",
        "startDate=2026-01-01",
        "endDate=2099-01-01",
        "minAmount=1",
        "maxAmount=9999",
    ):
        assert person.outcome(f"{plain}?{parameter}") == "MISS", parameter
        assert person.outcome(f"{plain}?{parameter}") == "HIT", parameter
    for same in (
        "?page=1&limit=10",
        "?order=desc&sort=createdAt",
        "?unknown=1",
    ):
        assert person.outcome(plain + same) == "HIT", same


def test_r6_4_nobody_is_served_anothers_entry(people: People) -> None:
    """Equal paths of different people and roles; an entry of a payment only for who may see it."""
    payer, payee, stranger = people.newcomer(), people.newcomer(), people.newcomer()
    admin = people.member("admin")
    payment = payer.pay(payee)
    for path in CACHED:
        payer.warm(path)
    for path in ("/api/auth/me", "/api/profile", "/api/payments"):
        assert stranger.get(path).json() != payer.get(path).json(), path
    assert stranger.get("/api/payments").json()["data"]["pagination"]["total"] == 0
    path = f"/api/payments/{payment}"
    payer.warm(path)
    assert payee.outcome(path) == "HIT"
    assert admin.outcome(path) == "HIT"
    refused = stranger.get(path)
    assert refused.status_code == 403
    assert "X-Cache" not in refused.headers


def test_r6_5_own_writes_by_every_way(stack: Any, people: People) -> None:
    """REST, GraphQL, webhook and administration: the next read shows it, after a HIT each time."""
    payer, payee = people.newcomer(), people.newcomer()
    admin = people.member("admin")
    payment = payer.pay(payee)
    path = f"/api/payments/{payment}"

    def seen(field: str) -> set[Any]:
        one = {reader.get(path).json()["data"][field] for reader in (payer, payee, admin)}
        lists = {
            row[field]
            for reader in (payer, payee, admin)
            for row in reader.get("/api/payments?limit=50").json()["data"]["payments"]
            if row["id"] == payment
        }
        return one | lists

    def warm() -> None:
        for reader in (payer, payee, admin):
            reader.warm(path)
            reader.warm("/api/payments?limit=50")

    warm()
    assert payer.http.put(path, json={"description": "by REST"}).status_code == 200
    assert seen("description") == {"by REST"}
    warm()
    payer.graphql(
        "mutation($id:ID!,$i:UpdatePaymentInput!){updatePayment(id:$id,input:$i){id}}",
        id=payment,
        i={"description": "by GraphQL"},
    )
    assert seen("description") == {"by GraphQL"}
    warm()
    assert webhook(stack, payer, payment, "processing").status_code == 200
    assert seen("status") == {"processing"}
    warm()
    changed = admin.http.patch(f"{path}/status", json={"status": "completed"})
    assert changed.status_code == 200
    assert seen("status") == {"completed"}


def test_r6_5_own_writes_to_profile_and_account(people: People) -> None:
    """Profile and preferences by REST and GraphQL; the account by an administrator."""
    person, admin = people.newcomer(), people.member("admin")
    for path in ("/api/profile", "/api/profile/preferences", "/api/auth/me"):
        person.warm(path)
    assert person.http.put("/api/profile", json={"bio": "one"}).status_code == 200
    assert person.get("/api/profile").json()["data"]["bio"] == "one"
    person.warm("/api/profile")
    person.warm("/api/profile/preferences")
    person.graphql(
        "mutation($i:UpdateProfileInput!){updateProfile(input:$i){id}}",
        i={"bio": "two", "preferences": {"theme": "dark"}},
    )
    assert person.get("/api/profile").json()["data"]["bio"] == "two"
    assert person.get("/api/profile/preferences").json()["data"] == {"theme": "dark"}
    person.warm("/api/auth/me")
    renamed = admin.http.put(f"/api/admin/users/{person.id}", json={"name": "Renamed"})
    assert renamed.status_code == 200
    assert person.get("/api/auth/me").json()["data"]["name"] == "Renamed"


def test_r6_6_a_renamed_user_is_renamed_in_payments(people: People) -> None:
    """The event voids payment, list and recipients before it is acknowledged."""
    payer, payee, admin = people.newcomer(), people.newcomer(), people.member("admin")
    payment = payer.pay(payee)
    paths = (f"/api/payments/{payment}", "/api/payments", "/api/payments/recipients")
    for path in paths:
        payer.warm(path)
    email = f"{uuid.uuid4()}@renamed.test"
    answer = admin.http.put(f"/api/admin/users/{payee.id}", json={"email": email})
    assert answer.status_code == 200
    for path in paths:
        until(lambda path=path: email in payer.get(path).text, f"the new e-mail in {path}")  # type: ignore[misc]
        assert payee.email not in payer.get(path).text


def test_r6_8_of_many_readers_on_a_cold_entry_one_loads(stack: Any, people: People) -> None:
    """One MISS; the others wait for it and have a HIT, also when loading takes its time."""
    person = people.newcomer()
    person.warm("/api/payments")  # its own events have come
    path = "/api/payments?limit=17"
    with (
        psycopg.connect(stack.database("payments")) as db,
        ThreadPoolExecutor(20) as pool,
    ):
        db.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        answers = [pool.submit(person.get, path) for _ in range(20)]
        with psycopg.connect(stack.database("payments"), autocommit=True) as other:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )

            def loading() -> int:
                row = other.execute(waiting).fetchone()
                assert row is not None
                return int(row[0])

            until(lambda: loading() > 0, "a load that waits for the table")
            time.sleep(0.7)  # time for the other nineteen to do the same, if they were to
            at_once = loading()
        db.rollback()
        outcomes = [answer.result().headers["X-Cache"] for answer in answers]
    assert at_once == 1
    assert sorted(outcomes) == ["HIT"] * 19 + ["MISS"]


@pytest.mark.parametrize(("down", "up"), [("stop", "start"), ("pause", "resume")])
def test_r6_9_r6_11_redis_down(stack: Any, people: People, down: str, up: str) -> None:
    """Refusing and hanging: same answers, BYPASS; after its return nothing older than a write."""
    person, payee = people.newcomer(), people.newcomer()
    payment = person.pay(payee)
    paths = [*CACHED, f"/api/payments/{payment}"]
    before = {path: person.warm(path).json() for path in paths}
    stack.control("redis", down)
    try:
        for path in paths:
            away = person.get(path)
            assert (away.status_code, away.headers["X-Cache"]) == (200, "BYPASS"), path
            assert away.json() == before[path]
        # Once it is known to be down nobody waits for it any more.
        took = []
        for _ in range(5):
            started = time.monotonic()
            person.get("/api/payments")
            took.append(time.monotonic() - started)
        assert min(took) < 0.25
        assert person.http.put("/api/profile", json={"bio": "meanwhile"}).status_code == 200
        answer = person.http.put(f"/api/payments/{payment}", json={"description": "meanwhile"})
        assert answer.status_code == 200
    finally:
        stack.control("redis", up)
    stack.until_ready()
    give_up = time.monotonic() + 15
    while True:
        profile, shown = person.get("/api/profile"), person.get(f"/api/payments/{payment}")
        assert profile.json()["data"]["bio"] == "meanwhile"
        assert shown.json()["data"]["description"] == "meanwhile"
        if profile.headers["X-Cache"] == shown.headers["X-Cache"] == "HIT":
            break
        assert time.monotonic() < give_up, "the cache is not used again"
        time.sleep(0.05)


def test_r6_10_what_is_no_success_is_not_kept(people: People, redis: Redis) -> None:
    """404, 403, 400 and 401 have no X-Cache and leave no entry."""
    person, other, third = people.newcomer(), people.newcomer(), people.newcomer()
    foreign = other.pay(third)
    unknown = str(uuid.uuid4())
    cases = (
        (f"/api/payments/{unknown}", 404),
        (f"/api/payments/{foreign}", 403),
        ("/api/payments?limit=0", 400),
        ("/api/payments/reports", 403),
    )
    for path, status in cases:
        for _ in range(2):
            answer = person.get(path)
            assert answer.status_code == status
            assert "X-Cache" not in answer.headers
    assert redis.get(f"payments:payment:{unknown}") is None
    assert list(redis.scan_iter(f"payments:report:{person.id}:*")) == []


def test_r6_10_r6_22_no_entry_holds_a_secret(people: People, redis: Redis) -> None:
    """Neither a password hash nor a token lies anywhere in Redis."""
    person = people.newcomer()
    for path in CACHED:
        person.warm(path)
    token = person.http.headers["Authorization"].removeprefix("Bearer ")
    secrets = [
        b"$argon2",
        PASSWORD.encode(),
        token.encode(),
        token.rpartition(".")[2].encode(),
        person.refresh_token.encode(),
        hashlib.sha256(person.refresh_token.encode()).hexdigest().encode(),
    ]
    jwt = re.compile(rb"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
    looked = 0
    for key in redis.scan_iter(count=1000):
        looked += 1
        value = contents(redis, key)
        assert not any(secret in key + value for secret in secrets), key
        assert not jwt.search(key + value), key
    assert looked > len(CACHED)


def test_r6_12_to_r6_19_r6_22_entries_lie_where_they_should(
    stack: Any, people: People, redis: Redis
) -> None:
    """Key, lifetime and tags of each row of 6.2."""
    person, vendor, admin = people.newcomer(), people.member("vendor"), people.member("admin")
    payment = person.pay(vendor)
    for reader in (person, vendor, admin):
        reader.warm(f"/api/payments/{payment}")
    for path in CACHED:
        person.warm(path)
    admin.warm("/api/payments")
    report = "/api/payments/reports?startDate=2026-01-01&endDate=2026-01-31&currency=USD"
    vendor.warm(report)
    admin.warm(report)
    person.http.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
    digest = hashlib.sha256(person.email.encode()).hexdigest()
    rows: list[tuple[str, int, list[str]]] = [
        (f"auth:user:{person.id}", 300, [f"auth:tag:user:{person.id}"]),
        (f"auth:user:email:{digest}", 300, [f"auth:tag:user:{person.id}"]),
        (
            f"payments:payment:{payment}",
            60,
            [
                f"payments:tag:payment:{payment}",
                f"payments:tag:user:{person.id}",
                f"payments:tag:user:{vendor.id}",
            ],
        ),
        (f"payments:list:{person.id}:*", 60, [f"payments:tag:user:{person.id}"]),
        ("payments:list:admin:*", 60, ["payments:tag:payments"]),
        (
            f"payments:report:{vendor.id}:2026-01-01:2026-01-31:USD",
            300,
            [f"payments:tag:user:{vendor.id}"],
        ),
        (
            "payments:report:admin:2026-01-01:2026-01-31:USD",
            300,
            ["payments:tag:payments"],
        ),
        (f"payments:recipients:{person.id}", 60, ["payments:tag:recipients"]),
        (f"profile:profile:{person.id}", 300, [f"profile:tag:user:{person.id}"]),
        (f"profile:preferences:{person.id}", 300, [f"profile:tag:user:{person.id}"]),
    ]
    for pattern, lifetime, tags in rows:
        keys = list(redis.scan_iter(pattern, count=1000))
        assert keys, pattern
        for key in keys:
            assert lifetime - 40 < redis.ttl(key) <= lifetime, key
        for tag in tags:
            assert any(redis.hexists(tag, key.decode()) for key in keys), (pattern, tag)
            assert redis.ttl(tag) > 0, tag
    named = redis.get(f"auth:user:email:{digest}")
    assert isinstance(named, bytes)
    assert body_of(named) == person.id.encode()


def test_r6_20_a_write_leaves_other_services_alone(people: People) -> None:
    """A profile's write does not touch entries of auth and payments, a payment's no profile's."""
    person, payee = people.newcomer(), people.newcomer()
    for path in CACHED:
        person.warm(path)
    assert person.http.put("/api/profile", json={"bio": "new"}).status_code == 200
    assert person.outcome("/api/profile") == "MISS"
    assert person.outcome("/api/auth/me") == "HIT"
    assert person.outcome("/api/payments") == "HIT"
    person.warm("/api/profile")
    person.pay(payee)
    assert person.outcome("/api/payments") == "MISS"
    assert person.outcome("/api/profile") == "HIT"
    assert person.outcome("/api/auth/me") == "HIT"


def test_r6_20_a_newcomer_is_offered_as_recipient(people: People) -> None:
    """A new user voids everybody's recipients."""
    person = people.newcomer()
    person.warm("/api/payments/recipients")
    newcomer = people.newcomer()
    until(
        lambda: newcomer.id in person.get("/api/payments/recipients").text,
        "the newcomer among the recipients",
    )


def test_r6_21_flushing_entries_logs_nobody_out(people: People, redis: Redis) -> None:
    """Entries go, sessions and counters stay; the next read is a MISS."""
    person = people.newcomer()
    leaving = people.newcomer()
    assert leaving.http.post("/api/auth/logout", json={}).status_code == 200
    for path in CACHED:
        person.warm(path)
    for pattern in ("auth:user:*", "payments:*", "profile:*"):
        if keys := list(redis.scan_iter(pattern, count=1000)):
            redis.unlink(*keys)
    for path in CACHED:
        answer = person.get(path)
        assert (answer.status_code, answer.headers["X-Cache"]) == (200, "MISS"), path
    refused = leaving.get("/api/auth/me")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "TOKEN_REVOKED")
    assert person.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})


def test_r6_22_an_address_is_forgotten_with_every_change(people: People, redis: Redis) -> None:
    """Written at registration, gone when the user is changed, and the new one leads on."""
    person, admin = people.newcomer(), people.member("admin")
    key = f"auth:user:email:{hashlib.sha256(person.email.encode()).hexdigest()}"
    assert redis.exists(key)
    new = f"{uuid.uuid4()}@renamed.test"
    answer = admin.http.put(f"/api/admin/users/{person.id}", json={"email": new})
    assert answer.status_code == 200
    assert not redis.exists(key)
    login = {"email": person.email, "password": PASSWORD}
    old = person.http.post("/api/auth/login", json=login)
    assert (old.status_code, old.json()["error"]["code"]) == (401, "INVALID_CREDENTIALS")
    again = person.http.post("/api/auth/login", json={"email": new, "password": PASSWORD})
    assert again.status_code == 200
    assert again.json()["data"]["user"]["id"] == person.id


TYPES = {
    "auth": {"user"},
    "payments": {"payment", "payment_list", "payment_report", "recipients"},
    "profile": {"profile", "preferences"},
}


@pytest.mark.parametrize("service", TYPES)
def test_r6_13_to_r6_19_each_kind_of_entry_has_its_type(
    stack: Any, people: People, service: str
) -> None:
    """As `cache_type` of the metrics: a HIT of each kind is counted under its name (R7.6)."""
    vendor, payer = people.member("vendor"), people.newcomer()
    payment = payer.pay(vendor)
    vendor.get("/api/payments/reports")
    for path in (*CACHED, f"/api/payments/{payment}", "/api/payments/reports"):
        vendor.warm(path)
    text = httpx.get(f"{stack.services[service]}/metrics").text
    found = re.findall(r'^cache_hits_total\{cache_type="(\w+)"\} (\S+)$', text, re.MULTILINE)
    assert {name for name, value in found if float(value) > 0} == TYPES[service]


@pytest.mark.parametrize("service", ["auth", "payments", "profile"])
def test_the_cache_tells_operators_how_it_is(stack: Any, people: People, service: str) -> None:
    """`/internal/cache` counts what X-Cache said, needs the token, and is not public (R1.153)."""
    url = f"{stack.services[service]}/internal/cache"
    token = {"X-Internal-Token": stack.target["access"]["internal"]["token"]}
    path, kind = {
        "auth": ("/api/auth/me", "user"),
        "payments": ("/api/payments", "payment_list"),
        "profile": ("/api/profile", "profile"),
    }[service]
    person: Person = people.newcomer()
    person.warm(path)
    before = httpx.get(url, headers=token).json()["data"]
    assert person.outcome(path) == "HIT"
    assert person.get(path, fresh=True).headers["X-Cache"] == "BYPASS"
    after = httpx.get(url, headers=token).json()["data"]
    assert (after["reachable"], after["trusted"]) == (True, True)
    assert set(after["types"][kind]) == {"hits", "misses", "bypasses", "entries"}
    for name, more in (("hits", 1), ("misses", 0), ("bypasses", 1)):
        assert after["types"][kind][name] == before["types"][kind][name] + more
    assert after["types"][kind]["entries"] >= 1
    assert httpx.get(url).status_code == 401
    for hidden in ("/internal/cache", f"/api/{service}/internal/cache"):
        assert person.http.get(hidden, headers=token).status_code == 404
