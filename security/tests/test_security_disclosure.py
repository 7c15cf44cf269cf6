"""The disclosure patterns find their canaries and leave ordinary answers alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from security import disclosure

POLICY = disclosure.profile()


def found(body: str = "", headers: list[list[str]] | None = None, **kwargs: Any) -> list[str]:
    """The names of the patterns that found something."""
    answers = {"answer": {"headers": headers or [], "body": body}}
    findings = disclosure.judge(answers, POLICY, **kwargs)
    return [finding.seen.partition(":")[0] for finding in findings]


def test_every_pattern_finds_its_canary() -> None:
    """No pattern is blind."""
    assert len(POLICY["pattern"]) >= 10
    assert disclosure.blind_patterns(POLICY) == []


def test_blind_pattern_is_noticed() -> None:
    """A pattern that finds nothing is named, so that its silence is no pass."""
    broken = {"pattern": [POLICY["pattern"][0] | {"regex": "never"}]}

    assert disclosure.blind_patterns(broken) == [POLICY["pattern"][0]["name"]]


@pytest.mark.parametrize(
    "body",
    [
        '{"success":false,"error":{"code":"NOT_FOUND","message":"Route GET /api/x not found"}}',
        '{"success":true,"data":{"service":"auth-service","status":"ready","version":"0.1.0"}}',
        '{"data":{"description":"Please select a gift from the shop","createdAt":"2026-01-01"}}',
        '<!doctype html><script type="module" src="/assets/page.0123456789abcdef.js"></script>',
        '{"message":"Update your details, then insert into the form"}',
        '{"amount":"10.00","limit":"10.25","address":"10 Downing Street"}',
        "look at the table: at (noon)",
    ],
)
def test_ordinary_answer(body: str) -> None:
    """Ordinary answers disclose nothing."""
    assert found(body, [["server", "nginx"], ["location", "https://localhost:8443/x"]]) == []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("Traceback (most recent call last):", "Python stack trace"),
        ("TypeError: x\n    at /srv/app/server.js:10:3", "JavaScript stack trace"),
        ('relation "users" does not exist', "SQL text"),
        ("SELECT id FROM users WHERE id = 1", "SQL text"),
        ("asyncpg.exceptions.UndefinedTableError", "database or broker error"),
        ("cannot reach http://127.0.0.1:3001/", "internal address"),
        ("upstream auth-service:3001 refused", "internal host"),
        ("open('/home/app/system/auth.py')", "file of the server"),
    ],
)
def test_leak_is_found(body: str, name: str) -> None:
    """Each kind of leak is found by its pattern."""
    assert name in found(body)


def test_leak_in_headers() -> None:
    """Versions and framework names in headers are found, whatever the header's rank."""
    assert found(headers=[["server", "uvicorn"]]) == ["framework name"]
    assert found(headers=[["server", "nginx/1.22.1"]]) == ["server version"]


def test_public_texts_are_allowed() -> None:
    """What is public anyway is no leak, but only that."""
    assert found("https://127.0.0.1:8443/", allowed=["127.0.0.1:8443"]) == []
    assert found("http://127.0.0.1:3001/", allowed=["127.0.0.1:8443"]) == ["internal address"]


def test_every_provocation_is_sent() -> None:
    """The probe sends each request of the policy and records each answer."""
    heard = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append((request.method, len(request.content)))
        return httpx.Response(400, json={"error": {}})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="https://x") as client:
        seen = disclosure.observe(client, POLICY)

    assert len(heard) == len(seen) == len(POLICY["provocation"])
    assert {exchange["status"] for exchange in seen.values()} == {400}
    assert max(size for _method, size in heard) > 10_000
