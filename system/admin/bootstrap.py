"""Puts together what the admin service stands on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from system.admin.adapters.postgres import PostgresAuditLog
from system.admin.ports import AuditLog
from system.platform import redis_connection
from system.platform.config import Settings
from system.platform.database import Database
from system.platform.events.connection import Connection
from system.platform.events.diagnostics import ProbeStore
from system.platform.events.outbox import Relay
from system.platform.http.app import Hook
from system.platform.http.health import Check
from system.platform.security.principal import Authenticator
from system.platform.security.sessions import SessionVerifier
from system.platform.security.tokens import KeyRing


@dataclass(frozen=True)
class Parts:
    """What the entrypoints of one process share.

    Attributes:
        probes: None while diagnostics are off (R3.52).
    """

    settings: Settings
    database: Database
    redis: Redis
    broker: Connection
    relay: Relay
    sessions: SessionVerifier
    authenticator: Authenticator
    audit_log: AuditLog
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
        return (self.database.start, self.broker.start, self.relay.start)

    @property
    def closings(self) -> tuple[Hook, ...]:
        """What ends after the entrypoints, in order."""
        return (
            self.relay.close,
            self.broker.close,
            self.sessions.close,
            self.redis.aclose,
            self.database.close,
        )


def assemble(settings: Settings) -> Parts:
    """Make the parts; nothing is opened before they start."""
    database = Database(settings.database_url)
    redis = redis_connection.connect(settings.redis_url)
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    sessions = SessionVerifier(redis, settings.auth_service_urls, settings.internal_service_token)
    return Parts(
        settings=settings,
        database=database,
        redis=redis,
        broker=broker,
        relay=Relay(database, broker),
        sessions=sessions,
        authenticator=Authenticator(KeyRing.from_settings(settings), sessions),
        audit_log=PostgresAuditLog(database),
        probes=ProbeStore() if settings.diagnostics_enabled else None,
    )
