"""An admin service with everything around it faked by the real ports, for HTTP tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx

from system.admin.domain.audit import AuditRow
from system.admin.entrypoints.application import ROUTES
from system.admin.service.configuration import Configuration
from system.admin.service.health import Probe, SystemHealth
from system.admin.service.users import Users
from system.admin.tests.fakes import FakeAccounts, FakeAuditLog, FakeStore, a_user
from system.platform.config.loading import load
from system.platform.http import errors
from system.platform.http.app import create_app
from system.platform.security.principal import Principal

ACTING = a_user(1)
ADMIN = {"Authorization": "ADMIN", "User-Agent": "probe"}


class FakeAuthenticator:
    """Takes the role for the token."""

    async def authenticate(self, header: str | None) -> Principal:
        if header is None:
            raise errors.unauthorized()
        return cast("Principal", SimpleNamespace(user_id=ACTING.id, role=header))


class House:
    """The service's HTTP side on fakes."""

    def __init__(self, rows: Sequence[AuditRow] = (), total: int = 0) -> None:
        self.store = FakeStore()
        self.accounts = FakeAccounts(ACTING, a_user(2))
        self.store.users_by_id = dict(self.accounts.users)
        self.log = FakeAuditLog(rows, total)
        self.probes: dict[str, Probe] = {}
        self.app = create_app(
            load("admin", {"ADMIN_DATABASE_URL": "postgresql://a@h/admin_db"}),
            ROUTES,
            checks={},
            essential=(),
            state={
                "authenticator": FakeAuthenticator(),
                "audit_log": self.log,
                "users": Users(self.store, self.accounts),
                "configuration": Configuration(self.store),
                "version": "9.9.9",
            },
        )

    def watch(self, probes: dict[str, Probe], timeout_s: float = 5.0) -> None:
        """Let the health route ask these."""
        self.app.state.system_health = SystemHealth(probes, timeout_s=timeout_s)

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=cast("Any", self.app), client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            yield client
