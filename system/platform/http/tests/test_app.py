"""R1.1-R1.18, R1.40, R7.2-R7.4, R7.12, R7.16: how every service answers, driven through ASGI."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from litestar import Litestar, Request, delete, get, post
from prometheus_client import REGISTRY

from system.platform.config.loading import load
from system.platform.http import errors
from system.platform.http.app import create_app
from system.platform.http.outermost import route_label
from system.platform.http.replies import Reply, created, deleted, success
from system.platform.http.requests import BODY_LIMIT, json_body, query
from system.platform.http.text_fields import Uuid
from system.platform.http.validation import Schema
from system.platform.observability.correlation import current

TRUSTED = "127.0.0.251"
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


@get("/things/{id:str}")
async def show(request: Request[Any, Any, Any]) -> Reply:
    return success(Schema({"id": Uuid()}).parse(request.path_params))


@get("/context")
async def context(request: Request[Any, Any, Any]) -> Reply:
    running = current()
    return success(
        {
            "id": running.correlation_id,
            "address": running.client_address,
            "agent": running.user_agent,
            "query": query(request),
        }
    )


@post("/things")
async def make(request: Request[Any, Any, Any]) -> Reply:
    return created(await json_body(request), {"Idempotency-Replayed": "true"})


@post("/exact")
async def make_exact(request: Request[Any, Any, Any]) -> Reply:
    body = await json_body(request, exact=("a",))
    return created({name: [type(value).__name__, str(value)] for name, value in body.items()})


@post("/refused")
async def refuse() -> Reply:
    raise errors.unauthorized()


@delete("/things/{id:str}", status_code=200)
async def remove() -> Reply:
    return deleted()


@get("/boom")
async def boom() -> Reply:
    raise RuntimeError("SELECT secret FROM users at 10.0.0.1")


@get("/down")
async def down() -> Reply:
    raise errors.service_unavailable()


@dataclass
class Answer:
    """What came back.

    Attributes:
        early: body bytes that were sent before the request's body was read to its end.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    early: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the one value of a header; None if there is none."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Client:
    """Calls the application as a server would, and watches the order of things."""

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | list[bytes] | None = None,
        peer: str = "127.0.0.1",
        sized: bool = True,
    ) -> Answer:
        path, _, query_string = target.partition("?")
        parts = [body] if isinstance(body, bytes) else list(body or [])
        raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
        if body is not None:
            raw.append(
                (b"content-length", str(sum(map(len, parts))).encode())
                if sized
                else (b"transfer-encoding", b"chunked")
            )
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query_string.encode(),
            "root_path": "",
            "headers": [(b"host", b"localhost"), *raw],
            "client": (peer, 50000),
            "server": ("127.0.0.1", 3001),
            "state": {},
        }
        answer = Answer()
        incoming = parts.copy()
        unread = bool(incoming)

        async def receive() -> dict[str, Any]:
            nonlocal unread
            if not incoming:
                unread = False
                return {"type": "http.request", "body": b"", "more_body": False}
            part = incoming.pop(0)
            unread = bool(incoming)
            return {"type": "http.request", "body": part, "more_body": unread}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [
                    (k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]
                ]
            else:
                answer.body += message.get("body", b"")
                if unread:
                    answer.early = answer.body
                if not message.get("more_body"):
                    assert not unread, "the answer ended before the request's body"

        await self._app(scope, receive, send)  # type: ignore[arg-type]  # a plain dict is a scope
        return answer


async def up() -> None:
    """A dependency that answers."""


@pytest.fixture(scope="module")
def call() -> Client:
    """A service behind one trusted proxy."""
    settings = load(
        "auth",
        {"AUTH_DATABASE_URL": "postgresql://a@h/auth_db", "TRUSTED_PROXIES": TRUSTED},
    )
    app = create_app(
        settings,
        [show, context, make, make_exact, refuse, remove, boom, down],
        checks={"database": up},
        public_prefixes={"/things": "/api/things"},
    )
    return Client(app)


async def test_hooks_run_in_order_around_service() -> None:
    """Start-up in the given order, shutdown in the given order, the watcher ended with it."""
    happened: list[str] = []

    def note(what: str) -> Callable[[], Awaitable[None]]:
        async def hook() -> None:
            happened.append(what)

        return hook

    app = create_app(
        load("auth", {"AUTH_DATABASE_URL": "postgresql://a@h/auth_db"}),
        [],
        checks={"database": up},
        on_startup=[note("database"), note("consumer")],
        on_shutdown=[note("consumer ends"), note("database ends")],
        state={"thing": happened},
    )
    async with app.lifespan():
        assert happened == ["database", "consumer"]
        assert app.state.thing is happened

    assert happened == ["database", "consumer", "consumer ends", "database ends"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "event-loop-lag"]


def metric(name: str, **labels: str) -> float:
    """Return a sample of this process's registry; 0 if there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_success_envelope(call: Client) -> None:
    """R1.1, R1.5: success, data, JSON, no-store."""
    answer = await call("GET", f"/things/{ID}")

    assert answer.status == 200
    assert answer.json == {"success": True, "data": {"id": ID}}
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-powered-by") is None


async def test_created_and_deleted(call: Client) -> None:
    """R1.3: 204 has no body and no type."""
    made = await call(
        "POST", "/things", body=b'{"a":1}', headers={"Content-Type": "application/json"}
    )
    gone = await call("DELETE", f"/things/{ID}")

    assert (made.status, made.json["data"]) == (201, {"a": 1})
    assert made.header("idempotency-replayed") == "true"
    assert (gone.status, gone.body, gone.header("content-type")) == (204, b"", None)


@pytest.mark.parametrize(
    ("method", "target", "peer", "message"),
    [
        ("GET", "/nothing?x=1", "127.0.0.1", "Route GET /nothing not found"),
        ("PATCH", f"/things/{ID}", "127.0.0.1", f"Route PATCH /things/{ID} not found"),
        ("PUT", "/", "127.0.0.1", "Route PUT / not found"),
        # The gateway's client knows the public path (R0.5).
        ("GET", "/things/a/b", TRUSTED, "Route GET /api/things/a/b not found"),
    ],
)
async def test_no_such_route(
    call: Client, method: str, target: str, peer: str, message: str
) -> None:
    """R1.11: unknown paths and methods alike, path without query."""
    answer = await call(method, target, peer=peer)

    assert answer.status == 404
    assert answer.json["error"] == {"code": "NOT_FOUND", "message": message}


async def test_unexpected_errors_tell_nothing(
    call: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """R1.6, R1.15: the caller sees one sentence, the log the reason."""
    answer = await call("GET", "/boom")

    assert answer.status == 500
    assert answer.json == {
        "success": False,
        "error": {"code": "INTERNAL_ERROR", "message": "An unexpected error occurred"},
    }
    assert "SELECT secret" in caplog.text


async def test_unavailable_tells_when_to_come_back(call: Client) -> None:
    """R1.14: 503 with Retry-After."""
    answer = await call("GET", "/down")

    assert (answer.status, answer.header("retry-after")) == (503, "1")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"X-Correlation-ID": "abc.DEF_1-2"}, "abc.DEF_1-2"),
        ({"X-Request-ID": "r1"}, "r1"),
        ({"X-Correlation-ID": "c", "X-Request-ID": "r"}, "c"),
        ({"X-Correlation-ID": "a b", "X-Request-ID": "r"}, "r"),
        ({"X-Correlation-ID": "x" * 128}, "x" * 128),
        ({"X-Correlation-ID": "x" * 129}, None),
        ({"X-Correlation-ID": ""}, None),
        ({"X-Correlation-ID": "a\xe9"}, None),
        ({}, None),
    ],
)
async def test_correlation(call: Client, given: dict[str, str], taken: str | None) -> None:
    """R7.16: taken over if well formed, made otherwise, and the same inside and outside."""
    answer = await call("GET", "/context", headers=given)

    seen = answer.header("x-correlation-id")
    assert seen == answer.json["data"]["id"]
    if taken is None:
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", seen or "")
    else:
        assert seen == taken


@pytest.mark.parametrize("target", ["/nothing", "/boom", "/down", "/things/x", "/metrics"])
async def test_every_answer_has_its_correlation_id(call: Client, target: str) -> None:
    """R7.16: refusals and errors too, exactly once."""
    answer = await call("GET", target, headers={"X-Correlation-ID": "c-1"})

    assert answer.header("x-correlation-id") == "c-1"


async def test_client_address_and_agent(call: Client) -> None:
    """R1.40: believed from the trusted peer only; the agent is cut to a length."""
    headers = {"X-Forwarded-For": "203.0.113.7", "User-Agent": "a" * 600}

    trusted = (await call("GET", "/context", headers=headers, peer=TRUSTED)).json["data"]
    stranger = (await call("GET", "/context", headers=headers, peer="127.0.0.9")).json["data"]

    assert trusted["address"] == "203.0.113.7"
    assert stranger["address"] == "127.0.0.9"
    assert len(trusted["agent"]) == 512


async def test_contexts_do_not_mix(call: Client) -> None:
    """Fifty requests at once: each sees its own id."""
    answers = await asyncio.gather(
        *(
            call("GET", "/context", headers={"X-Correlation-ID": f"c{number}"})
            for number in range(50)
        )
    )

    assert [answer.json["data"]["id"] for answer in answers] == [f"c{n}" for n in range(50)]


async def test_query_parameters(call: Client) -> None:
    """Decoded once; blank ones are there; one given twice is a list."""
    answer = await call("GET", "/context?a=1&b=&c=x%20y&d=1&d=2")

    assert answer.json["data"]["query"] == {"a": "1", "b": "", "c": "x y", "d": ["1", "2"]}


@pytest.mark.parametrize(
    ("media_type", "body", "expected"),
    [
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/json; charset=utf-8", b'{"a":1}', {"a": 1}),
        ("APPLICATION/JSON", b'{"a":1}', {"a": 1}),
        ("application/merge-patch+json", b'{"a":1}', {"a": 1}),
        ("application/json", b"", {}),
        ("text/plain", b"hello", {}),
        ("application/x-www-form-urlencoded", b"a=1", {}),
        ("application/json", b"[1]", "INVALID_JSON"),
        ("application/json", b'"a"', "INVALID_JSON"),
        ("application/json", b"null", "INVALID_JSON"),
        ("application/json", b'{"a":1', "INVALID_JSON"),
        ("application/json", b'{"a":NaN}', "INVALID_JSON"),
        ("application/json", b'{"a":"\xff"}', "INVALID_JSON"),
        ("application/json", b'{"a":"\\ud800"}', "INVALID_JSON"),
        ("application/json", b"[" * 20000, "INVALID_JSON"),
    ],
)
async def test_json_bodies(call: Client, media_type: str, body: bytes, expected: object) -> None:
    """R1.9: an object, or 400; another media type counts as absent."""
    answer = await call("POST", "/things", body=body, headers={"Content-Type": media_type})

    if isinstance(expected, str):
        assert (answer.status, answer.json["error"]["code"]) == (400, expected)
    else:
        assert (answer.status, answer.json["data"]) == (201, expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0.29999999999999999", ["Decimal", "0.29999999999999999"]),
        ("1e2", ["Decimal", "1E+2"]),
        ("7", ["int", "7"]),
        ('"0.1"', ["str", "0.1"]),
        ("null", ["NoneType", "None"]),
    ],
)
async def test_exact_numbers(call: Client, written: str, expected: list[str]) -> None:
    """R1.102: a number is read as it was written, which a float would have rounded."""
    body = f'{{"a": {written}, "b": 0.29999999999999999}}'.encode()

    answer = await call("POST", "/exact", body=body, headers={"Content-Type": "application/json"})

    assert answer.json["data"] == {"a": expected, "b": ["float", "0.3"]}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(("size", "status"), [(BODY_LIMIT, 201), (BODY_LIMIT + 1, 413)])
async def test_body_limit(call: Client, sized: bool, size: int, status: int) -> None:
    """R1.10: 102,400 bytes pass and one more does not, sized and chunked alike."""
    text = b'{"a":"' + b"x" * (size - 8) + b'"}'
    parts = [text[start : start + 30_000] for start in range(0, size, 30_000)]

    answer = await call(
        "POST", "/things", body=parts, sized=sized, headers={"Content-Type": "application/json"}
    )

    assert answer.status == status
    if status == 413:
        assert answer.json["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_an_early_answer_is_sent_and_the_body_read_on(call: Client) -> None:
    """R1.10: the refusal goes out before the end of the body, which is read all the same."""
    parts = [b"x" * 50_000] * 10

    answer = await call("POST", "/things", body=parts, headers={"Content-Type": "application/json"})

    assert answer.status == 413
    assert answer.early == answer.body
    assert answer.header("connection") == "close"


async def test_refused_requests_have_their_body_read(call: Client) -> None:
    """R1.10: a 401 or 404 with a small body keeps the connection."""
    for target in ("/refused", "/nothing"):
        answer = await call("POST", target, body=[b"{", b"}"])

        assert answer.status in (401, 404)
        assert answer.header("connection") is None


async def test_endless_bodies_are_not_read_for_ever(
    call: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1.10: reading on has a limit."""
    monkeypatch.setattr("system.platform.http.outermost._DRAIN_LIMIT", 100_000)

    with pytest.raises(AssertionError, match="ended before"):
        await call("POST", "/nothing", body=[b"x" * 50_000] * 10)


async def test_validation_comes_with_its_issues(call: Client) -> None:
    """R1.8, R1.16: the envelope of a broken rule."""
    answer = await call("GET", "/things/x")

    assert answer.status == 400
    assert answer.json["error"]["code"] == "VALIDATION_ERROR"
    assert answer.json["error"]["details"][0]["path"] == ["id"]


async def test_health_routes(call: Client) -> None:
    """R1.54: three paths, one shape."""
    for path, status in (
        ("/health", "healthy"),
        ("/health/live", "alive"),
        ("/health/ready", "ready"),
    ):
        answer = await call("GET", path)
        assert answer.status == 200
        assert answer.json["data"]["status"] == status
        assert answer.json["data"]["service"] == "auth-service"


async def test_request_metrics(call: Client) -> None:
    """R7.2-R7.4, R7.12: templates instead of paths, errors counted, nothing left in flight."""
    labels = {"method": "GET", "path": "/things/:id", "status": "400"}
    before = metric("http_requests_total", **labels)
    errors_before = metric("http_errors_total", **labels)

    for number in range(5):
        await call("GET", f"/things/bad{number}")

    assert metric("http_requests_total", **labels) == before + 5
    assert metric("http_errors_total", **labels) == errors_before + 5
    assert metric("http_request_duration_seconds_count", **labels) >= 5
    assert metric("http_active_connections") == 0


async def test_unknown_paths_and_methods_share_a_series(call: Client) -> None:
    """R7.12: a path scan does not make series."""
    labels = {"method": "GET", "path": "unmatched", "status": "404"}
    other = {"method": "other", "path": "unmatched", "status": "404"}
    before, other_before = (metric("http_requests_total", **each) for each in (labels, other))

    for number in range(20):
        await call("GET", f"/scan/{number}")
        await call(f"M{number}", "/scan")

    assert metric("http_requests_total", **labels) == before + 20
    assert metric("http_requests_total", **other) == other_before + 20


async def test_metrics_route(call: Client) -> None:
    """R7.1, R7.13: Prometheus text with the usual runtime names."""
    answer = await call("GET", "/metrics")
    text = answer.body.decode()

    assert (answer.header("content-type") or "").startswith("text/plain")
    assert "http_requests_total{" in text
    assert "\nprocess_resident_memory_bytes " in text
    assert "\nevent_loop_lag_seconds_count " in text
    assert "_created{" not in text


def test_route_labels() -> None:
    """R7.12: `:id`, as the contract writes it."""
    assert route_label("/payments/{id:str}/status") == "/payments/:id/status"
    assert route_label("/health") == "/health"
