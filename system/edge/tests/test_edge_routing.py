"""What leads where, what is hidden, and what the gateway is told (R5.1, R5.6-R5.16, R5.22)."""

from __future__ import annotations

import re
import uuid

import pytest

from system.edge.render import DISCARDED_REQUEST_HEADERS
from system.edge.tests.stand_in import Edge

HIDDEN = [
    "/metrics",
    "/METRICS",
    "/metrics/",
    "/metrics;x=1",
    "/%6detrics",
    "//metrics",
    "/./metrics",
    "/api/../metrics",
    "/api/%2e%2e/metrics",
    "/metrics%20",
    "/metrics.json",
    "/metrics%2f",
    "/internal",
    "/internal/users",
    "/Internal/keys",
    "/internal-api",
    "/%69nternal/users",
    "//internal/users",
    "/x/..//internal/users",
    "/hmr/",
    "/hmr/update.json",
    "/nginx_status",
    "/rabbitmq/api/overview",
    "/management",
    "/grafana/login",
    "/assets/page.js.map",
    "/assets/page.css.MAP",
    "/mfe/payments/main.js.map",
    "/payments-mfe/main.js.map",
    "/.git/config",
    "/.env",
    "/%2eenv",
    "/a/.git/config",
    "/.well-known/../.env",
    "/.well-known.bak",
]


@pytest.mark.parametrize("path", HIDDEN)
def test_r5_14_hidden_path(edge: Edge, path: str) -> None:
    """A hidden path is 404 JSON in every spelling, and nothing behind the edge is asked."""
    before = len(edge.upstream.heard)

    reply = edge.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )

    assert reply.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"NOT_FOUND"' in reply
    assert len(edge.upstream.heard) == before


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/api/payments?limit=5&x=%20", "/api/payments?limit=5&x=%20"),
        ("/api/x.png", "/api/x.png"),
        ("/api/x.js.map", "/api/x.js.map"),
        ("/api/a%2Fb//c", "/api/a%2Fb//c"),
        ("/api/auth/login", "/api/auth/login"),
        ("/api/auth/me", "/api/auth/me"),
        ("/api", "/api"),
        ("/graphql", "/graphql"),
        ("/health", "/health"),
        ("/health/live", "/health/live"),
        ("/api-docs.yaml", "/api-docs.yaml"),
        ("/ws?token=abc", "/ws?token=abc"),
    ],
)
def test_r5_6_to_r5_11_to_the_gateway(edge: Edge, path: str, upstream: str) -> None:
    """What belongs to the gateway reaches it with path and query as they were written."""
    edge.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert edge.upstream.heard[-1].target == upstream


def test_r5_22_what_the_gateway_is_told(edge: Edge) -> None:
    """Host, protocol and address are the edge's word; what the client claims is gone (R5.22)."""
    claims = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=1.2.3.4",
        "X-Forwarded-Port": "1",
        "X-Original-URL": "/internal",
        "X-Internal-Token": "guess",
        "X-Actor-Id": "somebody",
        "Range": "bytes=0-1",
        "Host": "evil.example",
    }
    own = f"localhost:{edge.settings.https_port}"
    with edge.client() as client:
        client.get("/api/x", headers=claims)
    heard = edge.upstream.heard[-1]

    assert heard.peer == "127.0.0.250"
    assert heard.values("X-Forwarded-For") == ["127.0.0.2"]
    assert heard.values("X-Real-IP") == ["127.0.0.2"]
    assert heard.values("X-Forwarded-Proto") == ["https"]
    assert heard.values("X-Forwarded-Host") == [own]
    assert heard.values("Host") == [own]
    for gone in claims.keys() & set(DISCARDED_REQUEST_HEADERS):
        assert heard.values(gone) == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"X-Correlation-ID": "a.B_c-1"}, "a.B_c-1"),
        ({"X-Correlation-ID": "x" * 128}, "x" * 128),
        ({"X-Request-ID": "from-request"}, "from-request"),
        ({"X-Correlation-ID": "first", "X-Request-ID": "second"}, "first"),
        ({"X-Correlation-ID": "bad id", "X-Request-ID": "second"}, "second"),
        ({"X-Correlation-ID": "x" * 129}, None),
        ({"X-Correlation-ID": "${jndi:x}"}, None),
        ({"X-Correlation-ID": 'a"b'}, None),
        ({}, None),
    ],
)
def test_correlation_id(edge: Edge, sent: dict[str, str], kept: str | None) -> None:
    """A good id is taken over, anything else becomes a UUID; upstream hears the same (R7.16)."""
    with edge.client() as client:
        (answered,) = client.get("/api/x", headers=sent).headers.get_list("x-correlation-id")

    assert edge.upstream.heard[-1].values("X-Correlation-ID") == [answered]
    assert edge.upstream.heard[-1].values("X-Request-ID") == []
    if kept is None:
        assert uuid.UUID(answered).version == 4
    else:
        assert answered == kept


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/", "localhost", "/"),
        ("/a%20b?x=%26&y", "localhost", "/a%20b?x=%26&y"),
        ("/api//x/../y", "localhost", "/api//x/../y"),
        ("/ws", "evil.example", "/ws"),
        ("/__e/404", "localhost", "/__e/404"),
        ("/x%0d%0aSet-Cookie:a=b", "localhost", "/x%0d%0aSet-Cookie:a=b"),
        ("/metrics", "localhost:80", "/metrics"),
    ],
)
def test_r5_1_plain_port_redirects(edge: Edge, target: str, host: str, location: str) -> None:
    """301 to the public origin with path and query unchanged; a foreign host is not named."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    )
    answer = edge.raw_plain(head.encode()).decode()

    assert answer.startswith("HTTP/1.1 301 ")
    assert f"\r\nLocation: {edge.settings.public_origin}{location}\r\n" in answer


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/", 200, "text/html"),
        ("/payments/123", 200, "text/html"),
        ("/ws/other", 200, "text/html"),
        ("/offline.html", 200, "text/html"),
        ("/remoteEntry.js", 200, "text/javascript"),
        ("/mfe/auth/remoteEntry.js", 200, "text/javascript"),
        ("/admin-mfe/remoteEntry.js", 200, "text/javascript"),
        ("/mfe/auth/none.js", 404, "application/json"),
        ("/mfe/auth/none", 404, "application/json"),
        ("/mfe/other/remoteEntry.js", 404, "application/json"),
        ("/mfe/", 404, "application/json"),
        ("/assets/none.css", 404, "application/json"),
        ("/none.woff2", 404, "application/json"),
    ],
)
def test_r5_12_r5_13_r5_15_files(edge: Edge, path: str, status: int, kind: str) -> None:
    """Pages fall back to the index page; missing assets and remotes' files do not (R5.15)."""
    with edge.client() as client:
        reply = client.get(path)

    assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (status, kind)


def test_r5_11_description_switched_off(impatient_edge: Edge) -> None:
    """Without API_DOCS_ENABLED the paths are 404 and the gateway is not asked (R5.11)."""
    before = len(impatient_edge.upstream.heard)
    with impatient_edge.client() as client:
        replies = [client.get(f"/api-docs{end}") for end in ("", ".json", ".yaml")]

    assert [reply.status_code for reply in replies] == [404] * 3
    assert len(impatient_edge.upstream.heard) == before


def test_no_fixed_name_in_messages(edge: Edge) -> None:
    """A 404 names the method and path that were asked for, and nothing that breaks JSON."""
    with edge.client() as client:
        named = client.delete("/metrics?token=abc").json()["error"]["message"]
        odd = edge.raw(
            b'GET /metrics/"x\\ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
        )

    assert named == "Route DELETE /metrics not found"
    assert re.search(rb'"message":"Route GET of this path not found"', odd)
