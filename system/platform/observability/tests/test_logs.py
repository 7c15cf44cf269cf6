"""R7.20, R7.21: one JSON object a line, with the running id and without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from system.platform.observability import correlation, logs, redaction

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ4In0.c2lnbmF0dXJlX3NpZ25hdHVyZQ"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logs of `auth-service`, caught; the process's own set-up is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    caught = io.StringIO()
    logs.configure("auth-service", stream=caught)
    yield caught
    root.handlers[:] = handlers
    root.setLevel(level)
    logs._RequestLines.stream = None


def line(stream: io.StringIO) -> dict[str, Any]:
    """Return the one line that was written."""
    text = stream.getvalue()
    assert text.count("\n") == 1
    entry: dict[str, Any] = json.loads(text)
    return entry


def test_lines_carry_the_running_id(stream: io.StringIO) -> None:
    """R7.17, R7.21: correlation and trace of the request that is being answered."""
    token = correlation.bind(
        correlation.RequestContext("c-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    )
    logging.getLogger("x").info("hello %s", "world", extra={"fields": {"paymentId": "p"}})
    correlation.unbind(token)

    entry = line(stream)
    assert entry["message"] == "hello world"
    assert (entry["level"], entry["service"]) == ("info", "auth-service")
    assert (entry["correlationId"], entry["traceId"]) == ("c-1", "a" * 32)
    assert entry["paymentId"] == "p"
    assert entry["timestamp"].endswith("Z")


def test_exceptions_stay_on_one_line(stream: io.StringIO) -> None:
    """A stack trace is a field, not thirty lines."""
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert "ValueError: bad" in line(stream)["exception"]


def test_request_lines(stream: io.StringIO) -> None:
    """R7.17: each request leaves its id in the log, with the template and not the path."""
    token = correlation.bind(correlation.RequestContext("c-2"))
    logs.request("GET", "/payments/:id", 200, 0.01234)
    correlation.unbind(token)

    entry = line(stream)
    assert (entry["message"], entry["correlationId"]) == ("GET /payments/:id 200", "c-2")
    assert entry["durationMs"] == 12.34
    assert (entry["level"], entry["service"], entry["traceId"]) == ("info", "auth-service", None)


def test_request_lines_tell_when(stream: io.StringIO) -> None:
    """R7.21, R0.4: the time of the line in UTC, with milliseconds."""
    before = datetime.now(UTC)
    logs.request("GET", "/payments/:id", 200, 0.01)
    after = datetime.now(UTC)

    text = line(stream)["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(text) <= after


def test_request_lines_quote_what_came_from_outside(stream: io.StringIO) -> None:
    """R7.21: a `traceparent` is unchecked while tracing is off; no caller can break a line."""
    hostile = '"},' + "\n" * 29
    context = correlation.RequestContext("c-3", traceparent=f"00-{hostile}-x-01")
    token = correlation.bind(context)
    logs.request('G"T', "unmatched", 404, 0.01)
    correlation.unbind(token)

    entry = line(stream)
    assert (entry["traceId"], entry["message"]) == (hostile, 'G"T unmatched 404')


def test_new_ids_are_uuids() -> None:
    """R7.16, R0.4: version 4, in lower case, each another."""
    made = [correlation.accept(None) for _ in range(1000)]

    assert all(str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4 for text in made)
    assert len(set(made)) == 1000


@pytest.mark.parametrize(
    ("raw", "kept", "gone"),
    [
        (f"token {JWT} refused", "refused", "eyJ"),
        ("amqp://admin:hunter2@h:5672 lost", "h:5672 lost", "hunter2"),
        ("password=hunter2 x", "x", "hunter2"),
        ('{"password": "hunter2", "a": 1}', '"a": 1', "hunter2"),
        ("Authorization: Bearer hunter2", "Authorization", "hunter2"),
        ("X-Api-Key: hunter2", "X-Api-Key", "hunter2"),
        ("login of ann@x.test failed", "failed", "ann@x.test"),
        ("refreshToken=hunter2&x=1", "x=1", "hunter2"),
        ("SET-COOKIE=hunter2", "SET-COOKIE", "hunter2"),
    ],
)
def test_texts_are_redacted(raw: str, kept: str, gone: str) -> None:
    """R7.20, R7.21: tokens, credentials, named secrets, addresses."""
    shown = redaction.text(raw)

    assert gone not in shown
    assert kept in shown


def test_harmless_texts_stay() -> None:
    """Redaction does not eat what is not secret."""
    for text in ("GET /payments/:id 200", "version 1.2.3", "http://localhost:3000/x.y.z", "a@b"):
        assert redaction.text(text) == text


def test_trees_are_redacted_at_any_depth() -> None:
    """R7.20: keys in any case, nested in objects and arrays."""
    shown = redaction.tree(
        {"a": [{"PASSWORD": "x", "n": 1}], "user_token": ["t"], "note": f"got {JWT}"}
    )

    assert shown == {
        "a": [{"PASSWORD": "[REDACTED]", "n": 1}],
        "user_token": "[REDACTED]",
        "note": "got [REDACTED]",
    }


def test_email_hashes_know_no_case() -> None:
    """One account has one hash in the log."""
    assert redaction.email_hash(" Ann@X.test") == redaction.email_hash("ann@x.test")
