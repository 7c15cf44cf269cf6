"""Tests of what is reported to Sentry and what is not (R7.19, R7.20); the receiver is a sink."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import get
from litestar.params import FromPath
from litestar.testing import AsyncTestClient

from system.platform.config.loading import load
from system.platform.http import errors
from system.platform.http.app import create_app
from system.platform.http.replies import Reply, success
from system.platform.observability import error_reports
from system.platform.observability.error_reports import BURST, Allowance, Request

from .sink import Sink

CANARY = "canary-51be"


@pytest.fixture
def reporting(receiver: Sink) -> Iterator[Sink]:
    """Reports of this process go to the sink; every request is measured."""
    error_reports._State.allowance = Allowance()
    settings = load("payments", _environment(receiver))
    error_reports.start(settings)
    assert error_reports.is_on()
    try:
        yield receiver
    finally:
        error_reports.stop()


def _environment(receiver: Sink, **more: str) -> dict[str, str]:
    return {
        "PAYMENTS_DATABASE_URL": "postgresql://role:pw@127.0.0.1:1/payments_db",
        "SENTRY_DSN": receiver.dsn,
        "SENTRY_PROFILES_SAMPLE_RATE": "0",
        **more,
    }


def _fail(password: str) -> None:
    secret_value = password
    raise RuntimeError(f"could not log in with password={secret_value}")


def test_r7_19_an_error_arrives_within_five_seconds_with_its_source_lines(
    reporting: Sink,
) -> None:
    """R7.19: environment, release, the place in the source."""
    started = time.monotonic()
    try:
        _fail(CANARY)
    except RuntimeError as error:
        error_reports.report(error, Request("GET", "/payments/:id", 500))

    reporting.wait(lambda: bool(reporting.reports()), 5, "the report")
    assert time.monotonic() - started < 5
    (event,) = reporting.reports()
    assert event["environment"] == "development"
    assert event["release"].startswith("payments-service@")
    assert event["transaction"] == "GET /payments/:id"
    (exception,) = event["exception"]["values"]
    frame = exception["stacktrace"]["frames"][-1]
    assert frame["function"] == "_fail"
    assert "raise RuntimeError" in frame["context_line"]
    assert frame["filename"].endswith("test_error_reports.py")
    assert exception["value"] == "could not log in with password=[REDACTED]"


def test_r7_20_secrets_are_replaced_before_sending(reporting: Sink) -> None:
    """R7.20: header, cookie, query, URL, message; e-mail addresses are left out."""
    request = Request(
        "POST",
        "/login",
        500,
        f"/login/token={CANARY}",
        f"access_token={CANARY}&page=2&mail=jo%40example.com",
        [
            ("Authorization", f"Bearer {CANARY}"),
            ("cookie", f"a={CANARY}"),
            ("X-Api-Key", CANARY),
            ("User-Agent", "probe by jo@example.com"),
        ],
    )
    try:
        raise ValueError(f"token {CANARY.join(('eyJhbGciOi.eyJzdWIi.', ''))} of jo@example.com")
    except ValueError as error:
        error_reports.report(error, request)

    reporting.wait(lambda: bool(reporting.reports()), 5, "the report")
    (event,) = reporting.reports()
    text = json.dumps(event["request"]) + json.dumps(event["exception"]["values"][0]["value"])
    assert CANARY not in text
    assert "example.com" not in json.dumps({**event, "exception": text})
    assert event["request"]["headers"]["Authorization"] == "[REDACTED]"
    assert "page=2" in event["request"]["query_string"]
    assert "probe by" in event["request"]["headers"]["User-Agent"]


def test_r7_20_local_variables_are_not_sent(reporting: Sink) -> None:
    """R7.20: a variable's value has no key that could tell that it is secret."""
    try:
        _fail(CANARY)
    except RuntimeError as error:
        error_reports.report(error)

    reporting.wait(lambda: bool(reporting.reports()), 5, "the report")
    assert CANARY not in json.dumps(reporting.reports())


async def test_r7_19_5xx_are_reported_and_4xx_are_not(reporting: Sink) -> None:
    """R7.19: unexpected errors and refusals for want of a dependency; not what clients do wrong."""

    @get("/{what:str}")
    async def fails(what: FromPath[str]) -> Reply:
        if what == "broken":
            raise RuntimeError("broken on purpose")
        if what == "away":
            raise errors.service_unavailable()
        if what == "refused":
            raise errors.bad_request()
        return success({})

    app = create_app(load("payments", _environment(reporting)), [fails], checks={}, essential=())
    async with AsyncTestClient(app) as client:
        for path, status in (
            ("/refused", 400),
            ("/a/b", 404),
            ("/fine", 200),
            ("/away", 503),
            ("/broken?token=" + CANARY, 500),
        ):
            answer = await client.get(path, headers={"X-Correlation-ID": "c-77"})
            assert answer.status_code == status

    reporting.wait(lambda: len(reporting.reports()) >= 2, 5, "two reports")
    error_reports.stop()
    events = reporting.reports()
    assert [event["exception"]["values"][-1]["type"] for event in events] == [
        "ApiError",
        "RuntimeError",
    ]
    assert [event["tags"]["http.status"] for event in events] == ["503", "500"]
    assert {event["tags"]["correlation_id"] for event in events} == {"c-77"}
    assert {event["transaction"] for event in events} == {"GET /:what"}
    assert events[1]["request"]["query_string"] == "token=[REDACTED]"
    assert CANARY not in json.dumps(events)


async def test_r7_19_requests_are_measured_by_their_template(reporting: Sink) -> None:
    """R7.19: traces by SENTRY_TRACES_SAMPLE_RATE, 1.0 outside production."""

    @get("/things/{thing:str}")
    async def thing(thing: FromPath[str]) -> Reply:
        return success({"thing": thing})

    app = create_app(load("payments", _environment(reporting)), [thing], checks={}, essential=())
    async with AsyncTestClient(app) as client:
        await client.get(f"/things/{CANARY}")

    reporting.wait(lambda: bool(reporting.reports("transaction")), 5, "the transaction")
    (transaction,) = reporting.reports("transaction")
    assert transaction["transaction"] == "GET /things/:thing"
    assert transaction["contexts"]["trace"]["op"] == "http.server"
    assert CANARY not in json.dumps(transaction)


def test_r7_19_the_same_error_is_reported_once(reporting: Sink) -> None:
    """R7.19: what a handler reported and then logged is one report."""
    try:
        _fail("x")
    except RuntimeError as error:
        error_reports.report(error)
        error_reports.report(error)
        logging.getLogger("test").exception("again")
    try:
        _fail("y")
    except RuntimeError:
        logging.getLogger("test").exception("logged only")
    logging.getLogger("test").error("without an exception")

    error_reports.stop()
    assert len(reporting.reports()) == 2


def test_r7_19_nothing_is_sent_without_a_dsn(receiver: Sink) -> None:
    """R7.19: Sentry only with a DSN."""
    environment = _environment(receiver)
    del environment["SENTRY_DSN"]
    error_reports.start(load("payments", environment))
    assert not error_reports.is_on()
    error_reports.report(RuntimeError("nobody hears it"))
    assert error_reports.performance("GET") is None


def test_r0_10_a_dsn_that_cannot_be_used_is_no_reason_not_to_start(
    receiver: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """R0.10: it is said, and the process goes on."""
    error_reports.start(load("payments", _environment(receiver, SENTRY_DSN="nonsense")))
    assert not error_reports.is_on()
    assert "SENTRY_DSN" in caplog.text
    assert "nonsense" not in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1.0, 1.0)),
        ({"NODE_ENV": "staging"}, (1.0, 1.0)),
        ({"SENTRY_TRACES_SAMPLE_RATE": "0.25"}, (0.25, 1.0)),
        ({"SENTRY_PROFILES_SAMPLE_RATE": "0"}, (1.0, 0.0)),
    ],
)
def test_r7_19_sample_rates(environment: dict[str, str], expected: tuple[float, float]) -> None:
    """R7.19: 1.0 outside production, unless the variables say otherwise."""
    url = {"PAYMENTS_DATABASE_URL": "postgresql://role:pw@127.0.0.1:1/payments_db"}
    settings = load("payments", {**url, **environment})
    assert (settings.sentry_traces_sample_rate, settings.sentry_profiles_sample_rate) == expected


def test_r7_19_one_failing_route_does_not_flood() -> None:
    """A burst of each kind, then one in three seconds; another kind has its own allowance."""
    now = 0.0
    allowance = Allowance(lambda: now)
    assert [allowance.take("E", "GET /x") for _ in range(BURST + 5)].count(True) == BURST
    assert allowance.take("E", "GET /y")
    now = 3.1
    assert allowance.take("E", "GET /x")
    assert not allowance.take("E", "GET /x")


def test_r7_20_what_the_scrubber_leaves_alone_is_our_own_source() -> None:
    """Source lines name passwords without holding any; they stay readable."""
    frame: dict[str, Any] = {"context_line": 'password = data["password"]', "lineno": 3}
    assert error_reports.scrub({"frames": [frame]}) == {"frames": [frame]}
