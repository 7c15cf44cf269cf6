"""Which headers cross the gateway (R1.51-R1.53)."""

from __future__ import annotations

import pytest

from system.gateway.domain.forwarding import (
    named_by,
    request_headers,
    response_headers,
    trace_context,
)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Expect",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-FORWARDED-anything",
        "X-Real-IP",
        "X-Internal-Token",
        "x-internal-x",
        "X-Actor-Id",
        "X-Actor-IP",
        "X_Internal_Token",
        "X_Actor-Id",
        "X-Correlation-ID",
        "traceparent",
    ],
)
def test_these_do_not_reach_a_service(name: str) -> None:
    """Hop-by-hop, framing, and what only the gateway may say."""
    lines = request_headers([(name.encode(), b"x"), (b"Accept", b"y")], [])
    assert lines == [b"Accept: y"]


def test_everything_else_passes_as_it_is() -> None:
    """Order, repetition and spelling are kept."""
    sent = [
        (b"Authorization", b"Bearer x"),
        (b"Cookie", b"a=1"),
        (b"X-Thing", b"1"),
        (b"Idempotency-Key", b"k"),
        (b"x-thing", b"2"),
        (b"tracestate", b"a=b"),
        (b"X-Request-ID", b"r"),
    ]
    assert request_headers(sent, []) == [name + b": " + value for name, value in sent]


@pytest.mark.parametrize(
    ("connection", "names"),
    [
        (["keep-alive"], set()),
        (["close"], set()),
        (["Keep-Alive"], set()),
        (["keep-alive, X-Secret"], {b"x-secret"}),
        (["X-One", "x-two ,X-THREE"], {b"x-one", b"x-two", b"x-three"}),
        (["upgrade, Content-Length"], {b"upgrade"}),
        ([""], set()),
    ],
)
def test_connection_names_further_headers(connection: list[str], names: set[bytes]) -> None:
    """RFC 9110, 7.6.1; the length stays, it frames the message."""
    assert named_by(connection) == names


def test_headers_named_in_connection_are_dropped_both_ways() -> None:
    """R1.51."""
    sent = [(b"X-Secret", b"1"), (b"X-Other", b"2")]
    assert request_headers(sent, ["x-secret"]) == [b"X-Other: 2"]
    assert response_headers(sent, ["x-secret"]) == [b"X-Other: 2"]


def test_a_response_loses_what_the_gateway_says_itself() -> None:
    """R1.6, R1.53: once each, and no framework's name."""
    sent = [
        (b"Server", b"uvicorn"),
        (b"X-Powered-By", b"x"),
        (b"X-Correlation-ID", b"x"),
        (b"Access-Control-Allow-Origin", b"*"),
        (b"RateLimit-Limit", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"2"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
        (b"X-Cache", b"HIT"),
    ]
    assert response_headers(sent, []) == [
        b"Content-Length: 2",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        b"X-Cache: HIT",
    ]


@pytest.mark.parametrize(
    "good",
    [
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
    ],
)
def test_a_trace_is_continued(good: bytes) -> None:
    """R1.52."""
    assert trace_context(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        None,
        b"",
        b"x",
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
    ],
)
def test_otherwise_a_trace_begins(bad: bytes | None) -> None:
    """A broken `traceparent` is replaced."""
    made = trace_context(bad)
    assert made != bad
    assert trace_context(made) == made
