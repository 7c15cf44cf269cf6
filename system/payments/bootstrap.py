"""Puts payments-service together from its settings."""

from __future__ import annotations

from typing import Final

from litestar import Litestar

from system.payments.adapters.directory import AuthDirectory
from system.payments.adapters.postgres import PostgresStore, PostgresUnit
from system.payments.adapters.statements import FORGET
from system.payments.entrypoints import events as event_entrypoints
from system.payments.entrypoints import http as http_entrypoints
from system.payments.entrypoints import webhooks
from system.payments.service.changes import PaymentChanges
from system.payments.service.commands import PaymentCommands
from system.payments.service.people import People
from system.payments.service.reading import PaymentReads
from system.platform import redis_connection
from system.platform.cache.cache import Cache
from system.platform.cache.circuit import Circuit, GuardedRedis
from system.platform.cache.notices import PostgresNotices
from system.platform.cache.route import cache_route
from system.platform.config.settings import Settings
from system.platform.database import Database
from system.platform.events import diagnostics
from system.platform.events.connection import Connection
from system.platform.events.consumer import Consumer
from system.platform.events.outbox import Relay
from system.platform.events.redis_channel import redis_channel
from system.platform.http.app import create_app
from system.platform.security.keys import keys_of_auth_service
from system.platform.security.principal import Authenticator
from system.platform.security.sessions import SessionVerifier
from system.platform.tidying import Tidying

QUEUE: Final = "payments.events.queue"


def build(settings: Settings) -> Litestar:
    """Make the application; nothing is opened before its start."""
    db = Database(settings.database_url)
    store = PostgresStore(db)
    redis = redis_connection.connect(
        settings.redis_url, timeout_s=redis_connection.SERVICE_READ_S, repeatable=True
    )
    # Session check and cache share it: a read waits for a missing Redis once, not twice (R6.9).
    circuit = Circuit()
    cache = Cache(
        settings.redis_url,
        "payments",
        notices=PostgresNotices(settings.database_url),
        circuit=circuit,
    )
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    relay = Relay(db, broker, redis_channel(settings))
    probes = diagnostics.ProbeStore() if settings.diagnostics_enabled else None
    consumer = Consumer(
        broker, QUEUE, event_entrypoints.handlers(cache, PostgresUnit), db, probes=probes
    )
    directory = AuthDirectory(settings.auth_service_urls, settings.internal_service_token)
    sessions = SessionVerifier(
        GuardedRedis(redis, circuit), settings.auth_service_urls, settings.internal_service_token
    )
    people = People(store, directory)
    keys = keys_of_auth_service(settings)
    tidying = Tidying(db, [FORGET])
    token = settings.internal_service_token
    return create_app(
        settings,
        [
            *http_entrypoints.routes(token),
            *webhooks.routes(settings.psp_webhook_secret),
            cache_route(token, cache),
            *diagnostics.routes(token, probes),
        ],
        checks={"database": db.ping, "redis": redis.ping, "rabbitmq": broker.health},
        on_startup=[
            db.start,
            cache.start,
            broker.start,
            relay.start,
            consumer.start,
            keys.start,
            tidying.start,
        ],
        on_shutdown=[
            tidying.close,
            consumer.close,
            relay.close,
            broker.close,
            keys.close,
            sessions.close,
            directory.close,
            cache.close,
            redis.aclose,
            db.close,
        ],
        state={
            "authenticator": Authenticator(keys, sessions),
            "reads": PaymentReads(store, cache),
            "commands": PaymentCommands(store, people, cache),
            "changes": PaymentChanges(store, people, cache),
        },
        public_prefixes={"/payments": "/api/payments", "/webhooks": "/api/webhooks"},
    )
