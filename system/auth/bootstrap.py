"""Puts auth-service together: every adapter is made here, and nowhere else."""

from __future__ import annotations

from datetime import timedelta

from litestar import Litestar

from system.auth.adapters.exempt_addresses import ExemptAddresses
from system.auth.adapters.mirror import RedisMirror
from system.auth.adapters.passwords import Argon2Hasher
from system.auth.adapters.postgres import PostgresStore
from system.auth.adapters.postgres_keys import Vault
from system.auth.adapters.session_check import StoreSessionCheck
from system.auth.adapters.tidying import OVER
from system.auth.adapters.user_cache import RedisUserCache
from system.auth.domain.keys import KeyKind
from system.auth.entrypoints import devices, events, http, internal, lockout, secrets
from system.auth.entrypoints.cookies import CookieTransport
from system.auth.service.accounts import AccountCommands
from system.auth.service.keys import KeyKeeper
from system.auth.service.lockouts import Lockouts
from system.auth.service.own_sessions import OwnSessions
from system.auth.service.passwords import PasswordChange
from system.auth.service.reading import AccountReads
from system.auth.service.signing_in import SigningIn
from system.auth.service.throttling import LoginGate
from system.auth.service.tokens import TokenDesk
from system.platform import redis_connection
from system.platform.cache.cache import Cache
from system.platform.cache.notices import PostgresNotices
from system.platform.cache.route import cache_route
from system.platform.config.settings import Settings
from system.platform.database import Database
from system.platform.events import diagnostics
from system.platform.events.connection import Connection
from system.platform.events.consumer import Consumer
from system.platform.events.outbox import Relay
from system.platform.events.redis_channel import redis_channel
from system.platform.events.topology import service_queue
from system.platform.http.app import create_app
from system.platform.security.principal import Authenticator
from system.platform.security.tokens import KeyRing, environment_keys, lifetime_seconds
from system.platform.tidying import Tidying


def create(settings: Settings) -> Litestar:
    """Make the application of auth-service; nothing is connected before it starts."""
    database = Database(settings.database_url)
    redis = redis_connection.connect(settings.redis_url)
    broker = Connection(
        settings.rabbitmq_url, name=settings.service_name, exchange=settings.rabbitmq_exchange
    )
    relay = Relay(database, broker, redis_channel(settings))
    cache = Cache(
        settings.redis_url, settings.service, notices=PostgresNotices(settings.database_url)
    )
    mirror = RedisMirror(redis, lifetime_seconds(settings.jwt_expires_in))
    hasher = Argon2Hasher(
        settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism
    )
    store = PostgresStore(database, Vault(settings.secrets_encryption_key))
    keeper = KeyKeeper(
        store,
        {
            KeyKind.JWT: environment_keys(settings.jwt_secrets, settings.jwt_secret),
            KeyKind.REFRESH: environment_keys(
                settings.jwt_refresh_secrets, settings.jwt_refresh_secret
            ),
        },
        {
            KeyKind.JWT: timedelta(seconds=lifetime_seconds(settings.jwt_expires_in)),
            KeyKind.REFRESH: timedelta(seconds=lifetime_seconds(settings.jwt_refresh_expires_in)),
        },
        ring=KeyRing({}),
    )
    keys = keeper.fresh
    user_cache = RedisUserCache(cache)
    desk = TokenDesk(keys, settings.jwt_expires_in, settings.jwt_refresh_expires_in)
    gate = LoginGate(ExemptAddresses(settings.rate_limit_exempt).covers)
    signing_in = SigningIn(
        store=store, hasher=hasher, mirror=mirror, cache=user_cache, desk=desk, gate=gate
    )
    tidying = Tidying(database, OVER)
    probes = diagnostics.ProbeStore() if settings.diagnostics_enabled else None
    consumer = Consumer(
        broker,
        service_queue(settings.service),
        events.handlers(mirror),
        database,
        probes=probes,
    )

    async def close_clients() -> None:
        hasher.close()
        await redis.aclose()

    return create_app(
        settings,
        [
            *http.ROUTES,
            *devices.ROUTES,
            *lockout.ROUTES,
            *secrets.ROUTES,
            internal.routes(settings.internal_service_token),
            cache_route(settings.internal_service_token, cache),
            *diagnostics.routes(settings.internal_service_token, probes),
        ],
        checks={"database": database.ping, "redis": redis.ping, "rabbitmq": broker.health},
        on_startup=[
            database.start,
            keys.start,
            mirror.start,
            cache.start,
            broker.start,
            relay.start,
            consumer.start,
            tidying.start,
        ],
        on_shutdown=[
            tidying.close,
            consumer.close,
            relay.close,
            broker.close,
            cache.close,
            mirror.close,
            keys.close,
            database.close,
            close_clients,
        ],
        state={
            "signing_in": signing_in,
            "reads": AccountReads(store, mirror, user_cache),
            "accounts": AccountCommands(store, hasher, mirror, user_cache),
            "authenticator": Authenticator(keys, StoreSessionCheck(store)),
            "cache": cache,
            "own_sessions": OwnSessions(store, mirror),
            "passwords": PasswordChange(
                store=store, hasher=hasher, mirror=mirror, cache=user_cache, gate=gate
            ),
            "lockouts": Lockouts(store),
            "cookies": CookieTransport(
                settings.cors_origins, lifetime_seconds(settings.jwt_refresh_expires_in)
            ),
            "ring": keys.ring,
            "keeper": keeper,
        },
        public_prefixes={"/auth": "/api/auth"},
    )
