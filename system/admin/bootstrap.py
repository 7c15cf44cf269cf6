"""Puts together what the admin service stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from system.admin.adapters.audit import PostgresAuditLog
from system.admin.adapters.auth_service import AuthService
from system.admin.adapters.probes import HttpProbes
from system.admin.adapters.reconciling import Reconciling
from system.admin.adapters.store import PostgresStore
from system.admin.ports import AuditLog
from system.admin.service import copies
from system.admin.service.configuration import Configuration
from system.admin.service.health import Probe, SystemHealth
from system.admin.service.users import Users
from system.platform import redis_connection
from system.platform.cache.circuit import Circuit, GuardedRedis
from system.platform.cache.probing import Probing
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


@dataclass(frozen=True)
class Parts:
    """What the entrypoints of one process share.

    Attributes:
        probes: None while diagnostics are off (R3.52).
    """

    settings: Settings
    database: Database
    redis: Redis
    probing: Probing
    broker: Connection
    relay: Relay
    sessions: SessionVerifier
    keys: FreshKeys
    authenticator: Authenticator
    accounts: AuthService
    reconciling: Reconciling
    http_probes: HttpProbes
    audit_log: AuditLog
    users: Users
    configuration: Configuration
    system_health: SystemHealth
    probes: ProbeStore | None

    @property
    def checks(self) -> dict[str, Check]:
        """Readiness by dependency (R1.55)."""
        return own_checks(self.database, self.redis, self.broker)

    @property
    def openings(self) -> tuple[Hook, ...]:
        """What starts before the entrypoints, in order."""
        return (
            self.database.start,
            self.broker.start,
            self.relay.start,
            self.keys.start,
            self.reconciling.start,
        )

    @property
    def closings(self) -> tuple[Hook, ...]:
        """What ends after the entrypoints, in order."""
        return (
            self.reconciling.close,
            self.relay.close,
            self.broker.close,
            self.keys.close,
            self.sessions.close,
            self.accounts.close,
            self.http_probes.close,
            self.probing.close,
            self.redis.aclose,
            self.database.close,
        )


def assemble(settings: Settings) -> Parts:
    """Make the parts; nothing is opened before they start."""
    database = Database(settings.database_url)
    redis = redis_connection.connect(settings.redis_url, timeout_s=redis_connection.SERVICE_READ_S)
    circuit = Circuit()
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    sessions = SessionVerifier(
        GuardedRedis(redis, circuit), settings.auth_service_urls, settings.internal_service_token
    )
    store = PostgresStore(database)
    accounts = AuthService(settings.auth_service_urls, settings.internal_service_token)
    http_probes = HttpProbes()
    keys = keys_of_auth_service(settings)
    return Parts(
        settings=settings,
        database=database,
        redis=redis,
        probing=Probing(redis, circuit),
        broker=broker,
        relay=Relay(database, broker, redis_channel(settings)),
        sessions=sessions,
        keys=keys,
        authenticator=Authenticator(keys, sessions),
        accounts=accounts,
        reconciling=Reconciling(partial(copies.reconcile, store, accounts)),
        http_probes=http_probes,
        audit_log=PostgresAuditLog(database),
        users=Users(store, accounts),
        configuration=Configuration(store),
        system_health=SystemHealth(
            {
                **own_checks(database, redis, broker),
                **_others(settings, http_probes),
            }
        ),
        probes=ProbeStore() if settings.diagnostics_enabled else None,
    )


def own_checks(database: Database, redis: Redis, broker: Connection) -> dict[str, Check]:
    """Return the checks of what this process itself stands on."""
    return {
        "database": database.ping,
        "redis": partial(redis_connection.ping, redis),
        "rabbitmq": broker.health,
    }


def _others(settings: Settings, http: HttpProbes) -> Mapping[str, Probe]:
    urls = {
        "gateway": settings.api_gateway_urls,
        "authService": settings.auth_service_urls,
        "paymentsService": settings.payments_service_urls,
        "adminService": settings.admin_service_urls,
        "profileService": settings.profile_service_urls,
    }
    return {name: partial(http.is_ready, addresses) for name, addresses in urls.items()}
