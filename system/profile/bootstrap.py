"""Puts together what the profile service stands on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from system.platform import redis_connection
from system.platform.cache.cache import Cache
from system.platform.cache.circuit import Circuit, GuardedRedis
from system.platform.cache.notices import PostgresNotices
from system.platform.config.settings import Settings
from system.platform.database import Database
from system.platform.events.connection import Connection
from system.platform.events.diagnostics import ProbeStore
from system.platform.events.outbox import Relay
from system.platform.events.redis_channel import redis_channel
from system.platform.http.app import Hook
from system.platform.http.health import Check
from system.platform.security.keys import FreshKeys, keys_of_auth_service
from system.platform.security.principal import Authenticator
from system.platform.security.sessions import SessionVerifier
from system.profile.adapters.postgres import PostgresStore
from system.profile.service import Profiles


@dataclass(frozen=True)
class Parts:
    """What the entrypoints of one process share.

    Attributes:
        probes: None while diagnostics are off (R3.52).
    """

    settings: Settings
    database: Database
    redis: Redis
    cache: Cache
    broker: Connection
    relay: Relay
    sessions: SessionVerifier
    keys: FreshKeys
    authenticator: Authenticator
    profiles: Profiles
    probes: ProbeStore | None

    @property
    def checks(self) -> dict[str, Check]:
        """Readiness by dependency (R1.55)."""
        return {
            "database": self.database.ping,
            "redis": partial(redis_connection.ping, self.redis),
            "rabbitmq": self.broker.health,
        }

    @property
    def openings(self) -> tuple[Hook, ...]:
        """What starts before the entrypoints, in order."""
        return (
            self.database.start,
            self.cache.start,
            self.broker.start,
            self.relay.start,
            self.keys.start,
        )

    @property
    def closings(self) -> tuple[Hook, ...]:
        """What ends after the entrypoints, in order."""
        return (
            self.relay.close,
            self.broker.close,
            self.keys.close,
            self.sessions.close,
            self.cache.close,
            self.redis.aclose,
            self.database.close,
        )


def assemble(settings: Settings) -> Parts:
    """Make the parts; nothing is opened before they start."""
    database = Database(settings.database_url)
    redis = redis_connection.connect(
        settings.redis_url, timeout_s=redis_connection.SERVICE_READ_S, repeatable=True
    )
    # Session check and cache share it: a read waits for a missing Redis once, not twice (R6.9).
    circuit = Circuit()
    cache = Cache(
        settings.redis_url,
        settings.service,
        notices=PostgresNotices(settings.database_url),
        circuit=circuit,
    )
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    sessions = SessionVerifier(
        GuardedRedis(redis, circuit), settings.auth_service_urls, settings.internal_service_token
    )
    keys = keys_of_auth_service(settings)
    return Parts(
        settings=settings,
        database=database,
        redis=redis,
        cache=cache,
        broker=broker,
        relay=Relay(database, broker, redis_channel(settings)),
        sessions=sessions,
        keys=keys,
        authenticator=Authenticator(keys, sessions),
        profiles=Profiles(PostgresStore(database), cache),
        probes=ProbeStore() if settings.diagnostics_enabled else None,
    )
