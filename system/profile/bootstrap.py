"""Puts the profile service together."""

from __future__ import annotations

from litestar import Litestar

from system.platform import redis_connection
from system.platform.config import Settings
from system.platform.database import Database
from system.platform.events import diagnostics, topology
from system.platform.events.connection import Connection
from system.platform.events.consumer import Consumer
from system.platform.events.outbox import Relay
from system.platform.http.app import create_app
from system.profile.entrypoints import EVENT_HANDLERS


def build(settings: Settings) -> Litestar:
    """Make the application; nothing is opened before it starts."""
    database = Database(settings.database_url)
    redis = redis_connection.connect(settings.redis_url)
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    probes = diagnostics.ProbeStore() if settings.diagnostics_enabled else None
    relay = Relay(database, broker)
    consumer = Consumer(
        broker, topology.service_queue(settings.service), EVENT_HANDLERS, database, probes=probes
    )
    return create_app(
        settings,
        diagnostics.routes(settings.internal_service_token, probes),
        checks={"database": database.ping, "redis": redis.ping, "rabbitmq": broker.health},
        on_startup=[database.start, broker.start, relay.start, consumer.start],
        on_shutdown=[
            consumer.close,
            relay.close,
            broker.close,
            redis.aclose,
            database.close,
        ],
    )
