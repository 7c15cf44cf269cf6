"""Tests of R7.1-R7.15 on the running platform: every metric moves with its cause."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from system.conftest import RunningStack
from system.tests.desks import Desk, locked, new_key, until

pytestmark = pytest.mark.platform

HTTP = (".005", ".01", ".025", ".05", ".1", ".15", ".25", ".5", "1", "2.5", "5", "10")
QUERY = (".001", ".005", ".01", ".025", ".05", ".1", ".25", ".5", "1", "2")
CACHE = (".001", ".005", ".01", ".05", ".1")


@dataclass(frozen=True)
class Scrape:
    """The samples of one `/metrics`: value by name and labels."""

    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]
    types: dict[str, str]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series with these labels."""
        wanted = labels.items()
        return sum(
            value
            for (found, pairs), value in self.samples.items()
            if found == name and wanted <= dict(pairs).items()
        )

    def labels(self, name: str) -> set[frozenset[str]]:
        """The label names of each series."""
        return {
            frozenset(key for key, _ in pairs) for found, pairs in self.samples if found == name
        }

    def values(self, name: str, label: str) -> set[str]:
        """All values of a label."""
        return {dict(pairs)[label] for found, pairs in self.samples if found == name}


def scrape(stack: RunningStack, part: str) -> Scrape:
    """Read a process's metrics as Prometheus does."""
    answer = httpx.get(stack.services[part] + "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    return Scrape(
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        },
        {family.name: family.type for family in families},
    )


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """Calls the gateway from the exempt address."""
    transport = httpx.HTTPTransport(local_address=stack.exempt)
    with httpx.Client(
        base_url=stack.services["gateway"], transport=transport, timeout=10
    ) as running:
        yield running


@pytest.fixture(scope="module")
def customer(stack: RunningStack, client: httpx.Client) -> dict[str, str]:
    """The seeded customer's header."""
    answer = client.post("/api/auth/login", json=stack.account("customer"))
    return {"Authorization": f"Bearer {answer.json()['data']['accessToken']}"}


def grown(
    stack: RunningStack, part: str, name: str, by: float, act: Callable[[], object], **labels: str
) -> None:
    """Assert that a series grows by exactly `by` while `act` runs, within 5 s."""
    before = scrape(stack, part).total(name, **labels)
    act()
    deadline = time.monotonic() + 5
    while (now := scrape(stack, part).total(name, **labels)) < before + by:
        assert time.monotonic() < deadline, f"{name}{labels}: {now - before:g}, expected {by:g}"
        time.sleep(0.05)
    assert now == before + by


def test_r7_2_requests_are_counted_by_template_at_gateway_and_service(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.2, R7.12: the public template at the gateway; errors from 400 on."""
    path = f"/api/payments/{uuid.uuid4()}"

    def ask() -> None:
        for _ in range(3):
            assert client.get(path, headers=customer).status_code == 404

    public = {"method": "GET", "path": "/api/payments/:id", "status": "404"}
    own = {**public, "path": "/payments/:id"}
    grown(stack, "gateway", "http_requests_total", 3, ask, **public)
    grown(stack, "gateway", "http_errors_total", 3, ask, **public)
    grown(stack, "gateway", "http_request_duration_seconds_count", 3, ask, **public)
    grown(stack, "payments", "http_requests_total", 3, ask, **own)
    grown(stack, "payments", "http_errors_total", 3, ask, **own)


@pytest.mark.parametrize(
    ("part", "name", "bounds", "labels"),
    [
        ("gateway", "http_request_duration_seconds", HTTP, {"method", "path", "status"}),
        ("payments", "http_request_duration_seconds", HTTP, {"method", "path", "status"}),
        ("payments", "db_query_duration_seconds", QUERY, {"operation", "table"}),
        ("payments", "cache_operations_duration_seconds", CACHE, {"operation", "cache_type"}),
        ("admin", "event_handling_duration_seconds", HTTP, {"queue"}),
        ("admin", "event_delivery_latency_seconds", HTTP, {"queue"}),
    ],
)
def test_r7_3_histograms_have_the_agreed_buckets(
    stack: RunningStack,
    client: httpx.Client,
    customer: dict[str, str],
    part: str,
    name: str,
    bounds: tuple[str, ...],
    labels: set[str],
) -> None:
    """R7.3, R7.5, R7.6, R7.9: bounds and labels, neither more nor fewer."""
    client.get("/api/payments", headers=customer)
    seen = scrape(stack, part)

    assert seen.types[name] == "histogram"
    assert seen.labels(f"{name}_bucket") == {frozenset(labels | {"le"})}
    found = {float(bound) for bound in seen.values(f"{name}_bucket", "le")}
    assert found == {*map(float, bounds), float("inf")}


def test_r7_7_r7_9_a_payment_moves_what_it_should(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.7, R7.9: created, amount, published, consumed; the outbox is empty again."""
    vendor = client.post("/api/auth/login", json=stack.account("vendor")).json()["data"]["user"]

    def pay() -> None:
        answer = client.post(
            "/api/payments",
            headers=customer,
            json={
                "recipientId": vendor["id"],
                "amount": 12.5,
                "currency": "USD",
                "type": "instant",
                "description": "x",
            },
        )
        assert answer.status_code == 201, answer.text

    grown(stack, "payments", "payments_created_total", 1, pay, type="instant")
    grown(stack, "payments", "payments_amount_total", 12.5, pay, currency="USD")
    grown(stack, "payments", "events_published_total", 1, pay, type="payment.created")
    grown(
        stack,
        "admin",
        "events_consumed_total",
        1,
        pay,
        queue="admin.events.queue",
        type="payment.created",
        outcome="ok",
    )
    grown(
        stack, "payments", "db_query_duration_seconds_count", 1, pay, operation="insert",
        table="payments",
    )  # fmt: skip
    deadline = time.monotonic() + 5
    while scrape(stack, "payments").total("outbox_pending"):
        assert time.monotonic() < deadline, "the outbox is not empty"
        time.sleep(0.05)


def test_r7_8_logins_are_counted_by_outcome(stack: RunningStack, client: httpx.Client) -> None:
    """R7.8: success and failure."""
    account = stack.account("vendor")
    grown(
        stack, "auth", "auth_login_total", 1,
        lambda: client.post("/api/auth/login", json=account), status="success",
    )  # fmt: skip
    wrong = {"email": f"nobody-{uuid.uuid4().hex[:8]}@example.com", "password": "Wrong1!wrong"}
    grown(
        stack, "auth", "auth_login_total", 1,
        lambda: client.post("/api/auth/login", json=wrong), status="failure",
    )  # fmt: skip


def test_r7_8_registrations_are_counted_by_outcome(
    stack: RunningStack, client: httpx.Client
) -> None:
    """R7.8: one success, then one failure for the address that is taken; each moves its own."""
    body = {
        "email": f"counted-{uuid.uuid4()}@x.test",
        "password": "Newcomer-Pass-123!",
        "name": "New",
    }

    def counted(outcome: str) -> float:
        return scrape(stack, "auth").total("auth_register_total", status=outcome)

    before = (counted("success"), counted("failure"))
    assert client.post("/api/auth/register", json=body).status_code == 201
    once = (counted("success"), counted("failure"))
    assert client.post("/api/auth/register", json=body).status_code == 409
    twice = (counted("success"), counted("failure"))

    assert once == (before[0] + 1, before[1])
    assert twice == (before[0] + 1, before[1] + 1)


def test_r7_5_statements_that_fail_are_counted(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.5: one for each, under its operation and table; good statements count as none."""

    def change() -> int:
        body = {"bio": str(uuid.uuid4())}
        return client.put("/api/profile", headers=customer, json=body).status_code

    def errors(**labels: str) -> float:
        return scrape(stack, "profile").total("db_query_errors_total", **labels)

    of_reading = {"operation": "select", "table": "user_profiles"}
    before = (errors(), errors(**of_reading))
    assert change() == 200
    assert (errors(), errors(**of_reading)) == before
    with locked(stack, "profile"):
        assert [change(), change()] == [503, 503]
    assert (errors(), errors(**of_reading)) == (before[0] + 2, before[1] + 2)
    assert change() == 200
    assert errors() == before[0] + 2


def test_r7_14_hits_and_misses_are_the_answers_that_say_so(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.14: hits + misses = answers with HIT or MISS; BYPASS counts as neither."""
    before = scrape(stack, "payments")
    shown: list[str] = []
    for number in range(6):
        headers = dict(customer)
        if number % 3 == 2:
            headers["Cache-Control"] = "no-cache"
        answer = client.get("/api/payments?page=1&limit=7", headers=headers)
        shown.append(answer.headers["X-Cache"])
    after = scrape(stack, "payments")

    assert shown.count("BYPASS") == 2
    for name, value in (("cache_hits_total", "HIT"), ("cache_misses_total", "MISS")):
        assert after.total(name) - before.total(name) == shown.count(value)


def test_r7_10_websockets_are_counted(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.10: connections, messages by direction and type, closes, refusals."""
    token = customer["Authorization"].removeprefix("Bearer ")
    address = stack.services["gateway"].replace("http", "ws") + "/ws"

    def talk() -> None:
        with connect(
            address,
            subprotocols=[Subprotocol("bearer"), Subprotocol(token)],
            source_address=(stack.exempt, 0),
        ) as socket:
            socket.recv(timeout=5)
            assert scrape(stack, "gateway").total("websocket_connections") >= 1
            socket.send('{"type":"ping","timestamp":"2026-01-01T00:00:00.000Z"}')
            socket.recv(timeout=5)

    def refused() -> None:
        with pytest.raises(InvalidStatus):
            connect(address, source_address=(stack.exempt, 0))

    grown(stack, "gateway", "websocket_messages_total", 1, talk, direction="in", type="ping")
    grown(stack, "gateway", "websocket_messages_total", 1, talk, direction="out", type="pong")
    grown(stack, "gateway", "websocket_closed_total", 1, talk, code="1000")
    grown(stack, "gateway", "websocket_rejected_total", 1, refused)
    assert scrape(stack, "gateway").total("websocket_connections") == 0


def test_r7_11_refusals_of_the_limiters_are_counted(stack: RunningStack) -> None:
    """R7.11: by limiter; credential routes have their own."""
    transport = httpx.HTTPTransport(local_address="127.0.3.211")
    with httpx.Client(base_url=stack.services["gateway"], transport=transport) as limited:
        before = scrape(stack, "gateway").total("rate_limit_rejections_total", limiter="credential")
        # Nothing in it: auth-service's own lockout, which is a 429 too, has no part in this.
        answers = [limited.post("/api/auth/login", json={}).status_code for _ in range(40)]
        after = scrape(stack, "gateway").total("rate_limit_rejections_total", limiter="credential")

    assert answers.count(429) > 0
    assert after - before == answers.count(429)


def test_r7_12_the_number_of_series_does_not_grow_with_requests(
    stack: RunningStack, client: httpx.Client, customer: dict[str, str]
) -> None:
    """R7.12: paths nobody knows, odd methods and ids all fall into known series."""

    def wander(times: int) -> None:
        for _ in range(times):
            some = uuid.uuid4()
            client.get(f"/{some}", headers=customer)
            client.get(f"/api/payments/{some}", headers=customer)
            client.get(f"/api/profile/{some}/x", headers=customer)
            client.request(f"X{some.hex[:8]}", f"/api/payments/{some}", headers=customer)

    wander(2)
    before = {part: len(scrape(stack, part).samples) for part in stack.services}
    wander(40)
    after = {part: scrape(stack, part) for part in stack.services}

    for part, seen in after.items():
        assert len(seen.samples) <= before[part] + 40, part  # other tests' first statements
        assert len(seen.samples) <= 2_000, part
        for (name, pairs), _ in seen.samples.items():
            for label, value in pairs:
                assert len(value) <= 64, (name, label, value)
                assert "@" not in value, (name, label, value)
    assert "unmatched" in after["gateway"].values("http_requests_total", "path")
    assert "other" in after["gateway"].values("http_requests_total", "method")


def test_r7_13_runtime_metrics_have_their_usual_names(stack: RunningStack) -> None:
    """R7.13: no doubled prefix; Python processes tell how late their event loop is."""
    for part in stack.services:
        seen = scrape(stack, part)
        for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
            assert seen.total(name) > 0, (part, name)
        assert seen.total("event_loop_lag_seconds_count") > 0, part
        assert not [name for name, _ in seen.samples if "process_process" in name]


def test_r7_4_requests_that_are_being_answered_are_shown(stack: RunningStack) -> None:
    """R7.4: a gauge without labels everywhere; where requests wait it tells how many."""
    for part in stack.services:
        seen = scrape(stack, part)
        assert seen.types["http_active_connections"] == "gauge"
        assert seen.labels("http_active_connections") == {frozenset()}
    desk = Desk(stack)
    start = {part: active(stack, part) for part in ("gateway", "payments")}

    with ThreadPoolExecutor(3) as pool, locked(stack, "payments") as waiting:
        for _ in range(3):
            pool.submit(desk.write, "payments", new_key())
        until(lambda: waiting() == 3, 3)
        assert {part: active(stack, part) for part in start} == {
            part: before + 3 for part, before in start.items()
        }
    desk.close()

    until(lambda: {part: active(stack, part) for part in start} == start, 5)


def active(stack: RunningStack, part: str) -> float:
    """How many requests a process is answering, the one that asks among them."""
    return scrape(stack, part).total("http_active_connections")


def test_r7_13_aborted_requests_leave_no_active_connection(
    stack: RunningStack, customer: dict[str, str]
) -> None:
    """R7.13: the gauge returns to its start after requests that nobody waited for."""
    import socket
    from urllib.parse import urlsplit

    start = scrape(stack, "payments").total("http_active_connections")
    place = urlsplit(stack.services["gateway"])
    for _ in range(20):
        line = socket.create_connection((place.hostname or "", place.port or 0))
        lines = (
            "GET /api/payments?limit=50 HTTP/1.1",
            "Host: x",
            f"Authorization: {customer['Authorization']}",
        )
        line.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        line.close()
    deadline = time.monotonic() + 5
    for part in ("gateway", "payments"):
        # The request that reads the gauge is itself one.
        while scrape(stack, part).total("http_active_connections") > max(start, 1):
            assert time.monotonic() < deadline, part
            time.sleep(0.05)


def test_r7_1_metrics_are_not_to_be_had_at_the_edge(stack: RunningStack) -> None:
    """R7.1, R5.14."""
    with httpx.Client(verify=stack.trust) as outside:
        assert outside.get(stack.origin + "/metrics").status_code == 404
