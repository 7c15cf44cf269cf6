"""The header judges: exactly once, allowed values, policies parsed and not grepped."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from security import headers, policies
from security.headers import AnswerClass

ORIGINS = ("https://localhost:8443", "wss://localhost:8443")
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob: https:; font-src 'self' data:; "
    "connect-src 'self' wss://localhost:8443; worker-src 'self'; manifest-src 'self'; "
    "frame-src 'self'; frame-ancestors 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
GOOD = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "content-security-policy": POLICY,
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "x-xss-protection": "1; mode=block",
    "referrer-policy": "strict-origin-when-cross-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-correlation-id": "0b0c6d1e-3d0f-4b0a-8d5e-0a4b5c6d7e8f",
    "cache-control": "no-store",
}


def places(name: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Where the findings are."""
    findings = headers.judge(name, pairs, headers.profile(), origins=ORIGINS)
    return [finding.place.removeprefix(f"{name}, ") for finding in findings]


def test_good_answer() -> None:
    """The contract's own values give no finding."""
    assert places("api success", list(GOOD.items())) == []


@pytest.mark.parametrize("name", list(GOOD))
def test_missing_or_doubled_header(name: str) -> None:
    """Each required header is missed when absent and when it comes twice."""
    without = [(key, value) for key, value in GOOD.items() if key != name]
    twice = [*GOOD.items(), (name.title(), GOOD[name])]

    assert [place.lower() for place in places("api success", without)] == [name]
    assert [place.lower() for place in places("api success", twice)] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strict-transport-security", "max-age=31535999; includeSubDomains"),
        ("strict-transport-security", "max-age=31536000"),
        ("strict-transport-security", "max-age=31536000; max-age=1; includeSubDomains"),
        ("strict-transport-security", "includeSubDomains"),
        ("x-frame-options", "ALLOWALL"),
        ("x-content-type-options", "sniff"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(self), payment=(), usb=()"),
        ("permissions-policy", "camera=()"),
        ("x-correlation-id", "a b"),
        ("cache-control", "public, max-age=60"),
    ],
)
def test_value_not_allowed(name: str, value: str) -> None:
    """A header with another value is a finding, and only that header."""
    found = places("api success", list((GOOD | {name: value}).items()))

    assert {place.lower() for place in found} == {name}


def test_rules_of_some_classes() -> None:
    """HSTS is not asked of the plain port's redirect, no-store only of APIs."""
    redirect = [
        (k, v) for k, v in GOOD.items() if k not in ("strict-transport-security", "cache-control")
    ]

    assert places("redirect", redirect) == []
    assert "Cache-Control" not in headers.required("page", headers.profile())
    assert "Cache-Control" in headers.required("graphql", headers.profile())


def test_forbidden_header() -> None:
    """A header that names the framework is a finding."""
    assert places("page", [*GOOD.items(), ("X-Powered-By", "Express")]) == ["X-Powered-By"]


@pytest.mark.parametrize(
    ("change", "directive"),
    [
        (("script-src 'self'", "script-src 'self' 'unsafe-inline'"), "script-src"),
        (("script-src 'self'", "script-src 'self' 'unsafe-eval'"), "script-src"),
        (("script-src 'self'", "script-src *"), "script-src"),
        (("script-src 'self'", "script-src https:"), "script-src"),
        (("script-src 'self'", "script-src HTTP:"), "script-src"),
        (("script-src 'self'", "script-src 'self' https://cdn.example"), "script-src"),
        (("script-src 'self'", "script-src 'self' cdn.example"), "script-src"),
        (("connect-src 'self'", "connect-src 'self' wss:"), "connect-src"),
        (("connect-src 'self'", "connect-src 'self' https://other.example"), "connect-src"),
        (("object-src 'none'; ", ""), "object-src"),
        (("object-src 'none'", "object-src *"), "object-src"),
        (("base-uri 'self'; ", ""), "base-uri"),
        (("frame-ancestors 'self'", "frame-ancestors *"), "frame-ancestors"),
        (("; form-action 'self'", ""), "form-action"),
        (("default-src 'self'", "default-src 'self' https:"), "default-src"),
    ],
)
def test_content_security_policy(change: tuple[str, str], directive: str) -> None:
    """Each weakening of the policy is found in its directive."""
    text = POLICY.replace(*change)
    table = headers.profile()["content-security-policy"]
    findings = policies.judge_content_security_policy(text, table, origins=ORIGINS, place="CSP")

    assert text != POLICY
    assert directive in {finding.place.removeprefix("CSP, ") for finding in findings}


def test_first_directive_counts() -> None:
    """A repeated directive cannot repair or weaken the first (CSP3 2.2)."""
    parsed = policies.parse_content_security_policy("script-src 'self'; Script-Src *; ; img-src")

    assert parsed == {"script-src": ("'self'",), "img-src": ()}


def test_default_speaks_for_absent_directives() -> None:
    """Without script-src the default's sources count; base-uri has no default."""
    parsed = policies.parse_content_security_policy("default-src *")

    assert policies.sources(parsed, "script-src") == ("*",)
    assert policies.sources(parsed, "worker-src") == ("*",)
    assert policies.sources(parsed, "base-uri") is None


def answer(request: httpx.Request) -> httpx.Response:
    """A server that knows three paths."""
    if request.url.path == "/gone":
        raise httpx.ConnectError("refused")
    if request.url.path == "/api/missing":
        return httpx.Response(404, json={"success": False, "error": {"code": "NOT_FOUND"}})
    return httpx.Response(200, html="<p>page</p>", headers=[("X-Two", "1"), ("X-Two", "2")])


def observed(*classes: AnswerClass) -> dict[str, Any]:
    """What the probe records of the small server."""
    with httpx.Client(transport=httpx.MockTransport(answer), base_url="https://x") as client:
        return headers.observe(client, classes)


def test_sample_must_prove_its_class() -> None:
    """An answer of another status, code or media type, or none at all, is no sample."""
    seen = observed(
        AnswerClass(name="page", path="/", media="text/html"),
        AnswerClass(name="api", path="/", media="application/json"),
        AnswerClass(name="404", path="/api/missing", status=(404,), code="NOT_FOUND"),
        AnswerClass(name="other 404", path="/api/missing", status=(404,), code="USER_NOT_FOUND"),
        AnswerClass(name="429", path="/", status=(429,)),
        AnswerClass(name="gone", path="/gone"),
    )

    proven = [name for name, sample in seen.items() if not headers.unproven(sample)]
    assert proven == ["page", "404"]
    assert ["x-two", "2"] in seen["page"]["exchange"]["headers"]
