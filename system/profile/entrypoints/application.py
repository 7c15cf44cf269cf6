"""Opens the profile service's doors: its queue and its HTTP port."""

from __future__ import annotations

from litestar import Litestar

from system.platform.cache.route import cache_route
from system.platform.config.settings import Settings
from system.platform.events import diagnostics, topology
from system.platform.events.consumer import Consumer
from system.platform.http.app import create_app
from system.profile.adapters.postgres import PostgresUnit
from system.profile.bootstrap import assemble
from system.profile.entrypoints import events, http


def create(settings: Settings) -> Litestar:
    """Make the application; nothing is opened before it starts."""
    parts = assemble(settings)
    consumer = Consumer(
        parts.broker,
        topology.service_queue(settings.service),
        events.handlers(parts.cache, PostgresUnit),
        parts.database,
        probes=parts.probes,
    )
    return create_app(
        settings,
        [
            *http.routes(settings.internal_service_token),
            cache_route(settings.internal_service_token, parts.cache),
            *diagnostics.routes(settings.internal_service_token, parts.probes),
        ],
        checks=parts.checks,
        on_startup=[*parts.openings, consumer.start],
        on_shutdown=[consumer.close, *parts.closings],
        state={"authenticator": parts.authenticator, "profiles": parts.profiles},
    )
