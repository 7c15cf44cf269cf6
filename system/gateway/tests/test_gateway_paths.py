"""Path normalisation and routing: what may be reached, in every spelling (R1.49, R1.50)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.gateway.domain.paths import UnusablePath, escape, normalise, split_target
from system.gateway.domain.routes import ROUTES, Access, RouteTable, Service

TABLE = RouteTable()


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ("/", "/"),
        ("/api/payments", "/api/payments"),
        ("/api/payments/", "/api/payments/"),
        ("//api//payments", "/api/payments"),
        ("/api///payments", "/api/payments"),
        ("/api/./payments", "/api/payments"),
        ("/api/x/../payments", "/api/payments"),
        ("/api/payments/.", "/api/payments/"),
        ("/api/payments/..", "/api/"),
        ("/api/payments/x/..", "/api/payments/"),
        ("/../../api/payments", "/api/payments"),
        ("/..", "/"),
        ("/.", "/"),
        ("/%61pi/payments", "/api/payments"),
        ("/api%2Fpayments", "/api/payments"),
        ("/api%2fpayments", "/api/payments"),
        ("/api/%2e/payments", "/api/payments"),
        ("/api/x/%2e%2e/payments", "/api/payments"),
        ("/api/x/%2E%2E%2Fpayments", "/api/payments"),
        ("/api/x/.%2e/payments", "/api/payments"),
        ("/api%2F%2Fpayments", "/api/payments"),
        ("/api/auth/%69nternal/users", "/api/auth/internal/users"),
        ("/api/auth//internal", "/api/auth/internal"),
        ("/api/payments/../auth/internal", "/api/auth/internal"),
        ("/%252e%252e/api", "/%2e%2e/api"),
        ("/api/%2525", "/api/%25"),
        ("/api/a%20b", "/api/a b"),
        ("/api/a+b", "/api/a+b"),
        ("/api/a%3Fb", "/api/a?b"),
        ("/api/a%23b", "/api/a#b"),
        ("/api/a;b", "/api/a;b"),
        ("/api/%c3%a4", "/api/ä"),
        ("/api/a@b.test", "/api/a@b.test"),
        ("/api/a%40b.test", "/api/a@b.test"),
        ("/api/...", "/api/..."),
        ("/api/.hidden", "/api/.hidden"),
        ("/api/a..b", "/api/a..b"),
        ("/API/payments", "/API/payments"),
        ("/api\\payments", "/api\\payments"),
    ],
)
def test_paths_have_one_normal_form(sent: str, normal: str) -> None:
    """Decoded once, slashes merged, dots resolved."""
    assert normalise(sent) == normal


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "api",
        "*",
        "/%",
        "/%4",
        "/%zz",
        "/a%00b",
        "/a%0d%0ab",
        "/%ff",
        "/%c3",
        "/a%7f",
        "/a\udcffb",
    ],
)
def test_paths_without_normal_form_are_unusable(sent: str) -> None:
    """A broken escape, a control character, bytes that are not UTF-8."""
    with pytest.raises(UnusablePath):
        normalise(sent)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40))
def test_escaping_keeps_the_normal_form(text: str) -> None:
    """What the service decodes is what was routed by: no second meaning."""
    normal = normalise(escape("/" + text))
    assert normalise(escape(normal)) == normal
    assert escape(normal).isascii()
    assert not set(escape(normal)) & set(' ?#"<>\\^`{|}')


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a?b=c", "/a", "?b=c"),
        ("/a?", "/a", "?"),
        ("/a?b?c", "/a", "?b?c"),
        ("/a", "/a", ""),
        ("http://host:1/a?b", "/a", "?b"),
        ("HTTPS://host", "/", ""),
        ("http://host?b", "/", "?b"),
        ("*", "*", ""),
    ],
)
def test_targets_split_into_path_and_query(target: str, path: str, query: str) -> None:
    """Origin form and absolute form; the query stays as it was sent."""
    assert split_target(target) == (path, query)


@pytest.mark.parametrize(
    ("method", "path", "service", "service_path", "access"),
    [
        ("POST", "/api/auth/login", Service.AUTH, "/auth/login", Access.PUBLIC),
        ("POST", "/api/auth/register", Service.AUTH, "/auth/register", Access.PUBLIC),
        ("POST", "/api/auth/refresh", Service.AUTH, "/auth/refresh", Access.PUBLIC),
        ("GET", "/api/auth/me", Service.AUTH, "/auth/me", Access.TOKEN),
        ("GET", "/api/auth/admin/secrets/status", Service.AUTH, None, Access.TOKEN),
        ("DELETE", "/api/auth/devices/d-1", Service.AUTH, "/auth/devices/d-1", Access.TOKEN),
        ("GET", "/api/payments", Service.PAYMENTS, "/payments", Access.TOKEN),
        ("GET", "/api/payments/x", Service.PAYMENTS, "/payments/x", Access.TOKEN),
        ("PATCH", "/api/payments/x/status", Service.PAYMENTS, "/payments/x/status", Access.TOKEN),
        (
            "POST",
            "/api/webhooks/payments",
            Service.PAYMENTS,
            "/webhooks/payments",
            Access.PUBLIC,
        ),
        ("GET", "/api/admin/users", Service.ADMIN, "/api/admin/users", Access.ADMIN),
        ("GET", "/api/admin/health", Service.ADMIN, "/api/admin/health", Access.ADMIN),
        ("PUT", "/api/profile", Service.PROFILE, "/api/profile", Access.TOKEN),
    ],
)
def test_routes_lead_to_their_service(
    method: str, path: str, service: Service, service_path: str | None, access: Access
) -> None:
    """R1.49, and who may pass (R1.29)."""
    route = TABLE.find(method, path)
    assert route is not None
    assert (route.service, route.access) == (service, access)
    if service_path is not None:
        assert route.service_path(path) == service_path


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/",
        "/api/health",
        "/api/nothing",
        "/api/payments/",
        "/api/auth/login/",
        "/api/auth/internal",
        "/api/auth/internal/users",
        "/api/payments/internal/payments/x/parties",
        "/api/admin/internal/users",
        "/api/profile/internal",
        "/api/auth/health",
        "/api/auth/health/ready",
        "/api/auth/metrics",
        "/api/profile/health/live",
        "/api/profile/metrics",
        "/api/admin/health/ready",
        "/api/admin/metrics",
        "/internal",
        "/internal/users",
        "/auth/me",
        "/payments",
        "/API/payments",
        "/api/payments;x",
        "/api/auth/me/x",
        "/api/auth/devices//x",
    ],
)
def test_unlisted_paths_lead_nowhere(path: str) -> None:
    """Internal, health and metrics paths of services, and what does not exist (R1.11, R1.50)."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        route = TABLE.find(method, path)
        assert route is None, route
    assert not TABLE.knows(path)


@pytest.mark.parametrize(
    "path", ["/api/payments/health", "/api/payments/metrics", "/api/payments/internal"]
)
def test_forbidden_names_are_no_parameters(path: str) -> None:
    """`/api/payments/:id` does not open `/api/payments/health` (R1.50)."""
    assert TABLE.find("GET", path) is None
    assert TABLE.find("PUT", path) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/payments/x"),
        ("GET", "/api/auth/login"),
        ("HEAD", "/api/payments"),
        ("TRACE", "/api/payments"),
        ("PATCH", "/api/payments"),
    ],
)
def test_unlisted_methods_lead_nowhere(method: str, path: str) -> None:
    """R1.11, R1.124."""
    assert TABLE.find(method, path) is None


def test_listed_names_win_over_parameters() -> None:
    """`/api/payments/recipients` is not a payment."""
    route = TABLE.find("GET", "/api/payments/recipients")
    assert route is not None
    assert route.template == "/api/payments/recipients"
    route = TABLE.find("GET", "/api/payments/other")
    assert route is not None
    assert route.template == "/api/payments/:id"


def test_every_route_of_the_contract_is_there() -> None:
    """Sections 1.10-1.13 list 45 public routes with their methods."""
    assert len({(route.method, route.template) for route in ROUTES}) == len(ROUTES) == 45
    for route in ROUTES:
        assert TABLE.find(route.method, route.template.replace(":", "x")) is not None
