"""Opens the profile service's doors: its queue and its HTTP port."""

from __future__ import annotations

from litestar import Litestar

from system.platform.config import Settings
from system.platform.events import diagnostics, topology
from system.platform.events.consumer import Consumer
from system.platform.http.app import create_app
from system.profile.bootstrap import assemble
from system.profile.entrypoints.events import EVENT_HANDLERS


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
        diagnostics.routes(settings.internal_service_token, parts.probes),
        checks=parts.checks,
        on_startup=[*parts.openings, consumer.start],
        on_shutdown=[consumer.close, *parts.closings],
    )
