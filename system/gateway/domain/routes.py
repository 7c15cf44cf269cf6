"""The public routes of the system: who may call them, and where they lead (1.8, 1.10-1.13)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class Service(StrEnum):
    """The services behind the gateway."""

    AUTH = "auth"
    PAYMENTS = "payments"
    ADMIN = "admin"
    PROFILE = "profile"


class Access(Enum):
    """What the gateway asks of a caller (R1.29); the service asks again, and for more."""

    PUBLIC = "nothing"
    TOKEN = "a valid access token"
    ADMIN = "a valid access token of an ADMIN"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one public path.

    Attributes:
        method: in upper case.
        template: public path with `:name` for parameters; the label of its metrics (R7.12).
        service: who answers.
        access: what the gateway checks before.
        credential: falls under the credential limiter (R1.43).
        public_prefix: the part of the public path that is replaced...
        service_prefix: ...by this (R1.49).
    """

    method: str
    template: str
    service: Service
    access: Access
    credential: bool
    public_prefix: str
    service_prefix: str

    def service_path(self, path: str) -> str:
        """Where a public path of this route lies at the service."""
        return self.service_prefix + path[len(self.public_prefix) :]


# Public prefix, service prefix, service (R1.49).
_PREFIXES: Final = {
    "/api/auth": ("/auth", Service.AUTH),
    "/api/payments": ("/payments", Service.PAYMENTS),
    "/api/webhooks": ("/webhooks", Service.PAYMENTS),
    "/api/admin": ("/api/admin", Service.ADMIN),
    "/api/profile": ("/api/profile", Service.PROFILE),
}
_PUBLIC: Final = frozenset(
    {"/api/auth/register", "/api/auth/login", "/api/auth/refresh", "/api/webhooks/payments"}
)
_CREDENTIAL: Final = frozenset({"/api/auth/register", "/api/auth/login", "/api/auth/refresh"})

# R1.50; `/api/admin/health` is listed and therefore found before.
_HIDDEN: Final = re.compile(r"/api/[^/]+/(?:internal|health|metrics(?:/|$))")

_TABLE: Final = """
POST /api/auth/register
POST /api/auth/login
POST /api/auth/refresh
GET /api/auth/me
POST /api/auth/logout
POST /api/auth/password
GET /api/auth/admin/lockout/:email
POST /api/auth/admin/unlock/:email
GET /api/auth/devices
POST /api/auth/devices/register
POST /api/auth/devices/logout-others
PATCH /api/auth/devices/:deviceId
DELETE /api/auth/devices/:deviceId
GET /api/auth/sessions
DELETE /api/auth/sessions/:id
GET /api/auth/admin/secrets/status
POST /api/auth/admin/secrets/rotate
GET /api/auth/admin/secrets/rotation-history
POST /api/auth/admin/secrets/check-expiring
GET /api/payments
POST /api/payments
GET /api/payments/recipients
GET /api/payments/reports
GET /api/payments/:id
PUT /api/payments/:id
PATCH /api/payments/:id/status
POST /api/webhooks/payments
GET /api/admin/users
POST /api/admin/users
GET /api/admin/users/:id
PUT /api/admin/users/:id
DELETE /api/admin/users/:id
PUT /api/admin/users/:id/role
PATCH /api/admin/users/:id/role
PATCH /api/admin/users/:id/status
GET /api/admin/audit-logs
GET /api/admin/audit-logs/actions
GET /api/admin/config
GET /api/admin/config/:key
PUT /api/admin/config/:key
GET /api/admin/health
GET /api/profile
PUT /api/profile
GET /api/profile/preferences
PUT /api/profile/preferences
"""


def _route(line: str) -> Route:
    method, template = line.split()
    prefix = "/".join(template.split("/")[:3])
    service_prefix, service = _PREFIXES[prefix]
    if template in _PUBLIC:
        access = Access.PUBLIC
    elif prefix == "/api/admin":
        access = Access.ADMIN
    else:
        access = Access.TOKEN
    return Route(method, template, service, access, template in _CREDENTIAL, prefix, service_prefix)


ROUTES: Final = tuple(_route(line) for line in _TABLE.split("\n") if line)


class RouteTable:
    """Finds the route of a method and a normal path.

    Only what is listed is reachable.  Internal, health and metrics paths of the services are
    absent here and no value of a parameter either, so nothing that normalises to them is ever
    passed on (R1.50).
    """

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        self._static: dict[tuple[str, str], Route] = {}
        self._open: dict[tuple[str, int], list[tuple[tuple[str, ...], Route]]] = {}
        self._methods: set[str] = set()
        for route in routes:
            self._methods.add(route.method)
            if ":" not in route.template:
                self._static[route.method, route.template] = route
                continue
            segments = tuple(route.template.split("/"))
            self._open.setdefault((route.method, len(segments)), []).append((segments, route))

    def find(self, method: str, path: str) -> Route | None:
        """The route that answers, or None; a listed name wins over a parameter."""
        route = self._static.get((method, path))
        if route is not None:
            return route
        if _HIDDEN.match(path):
            return None
        segments = path.split("/")
        for template, candidate in self._open.get((method, len(segments)), ()):
            if all(
                wanted == seen or (wanted.startswith(":") and seen)
                for wanted, seen in zip(template, segments, strict=True)
            ):
                return candidate
        return None

    def knows(self, path: str) -> bool:
        """Whether any method has a route at this path."""
        return any(self.find(method, path) is not None for method in self._methods)
