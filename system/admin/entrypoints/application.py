"""Opens the admin service's doors: its queue and its HTTP port."""

from __future__ import annotations

from litestar import Litestar

from system.admin.bootstrap import assemble
from system.admin.entrypoints import http_audit, http_configuration, http_health, http_users
from system.admin.entrypoints.events import EVENT_HANDLERS
from system.platform.config.settings import Settings
from system.platform.events import diagnostics, topology
from system.platform.events.consumer import Consumer
from system.platform.http.app import create_app

ROUTES = (
    *http_users.ROUTES,
    *http_audit.ROUTES,
    *http_configuration.ROUTES,
    *http_health.ROUTES,
)


def create(settings: Settings) -> Litestar:
    """Make the application; nothing is opened before it starts."""
    parts = assemble(settings)
    consumer = Consumer(
        parts.broker,
        topology.service_queue(settings.service),
        EVENT_HANDLERS,
        parts.database,
        probes=parts.probes,
    )
    return create_app(
        settings,
        [*ROUTES, *diagnostics.routes(settings.internal_service_token, parts.probes)],
        checks=parts.checks,
        on_startup=[*parts.openings, consumer.start],
        on_shutdown=[consumer.close, *parts.closings],
        state={
            "authenticator": parts.authenticator,
            "audit_log": parts.audit_log,
            "users": parts.users,
            "configuration": parts.configuration,
            "system_health": parts.system_health,
            "version": settings.version,
        },
    )
