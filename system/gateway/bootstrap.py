"""Puts the gateway's parts together from its configuration; the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from redis.asyncio import Redis

from system.gateway.adapters.bridge import BrokerBridge, instance_name
from system.gateway.adapters.limiters import RedisCredentialLimiter, RedisGeneralLimiter
from system.gateway.adapters.payment_parties import InternalPaymentParties
from system.gateway.adapters.rest import UpstreamRest
from system.gateway.adapters.service_descriptions import InternalDescriptions
from system.gateway.adapters.upstream import Upstream
from system.gateway.domain.routes import Service
from system.gateway.ports import Authentication, Bridge, Rest
from system.gateway.service.admission import AdmissionService, Exemptions
from system.gateway.service.description import DescriptionService
from system.gateway.service.realtime import RealtimeService
from system.platform import redis_connection
from system.platform.cache.circuit import Circuit, GuardedRedis
from system.platform.cache.probing import Probing
from system.platform.config.settings import Settings
from system.platform.http.health import Check, Health
from system.platform.security.keys import FreshKeys, keys_of_auth_service
from system.platform.security.principal import Authenticator
from system.platform.security.sessions import SessionVerifier

HEALTH_TIMEOUT_S: Final = 2.0  # R1.54
SOURCE_ADDRESS_VARIABLE: Final = "UPSTREAM_SOURCE_ADDRESS"


@dataclass(frozen=True)
class Gateway:
    """The parts of one gateway process.

    Attributes:
        settings: what the process was told.
        upstreams: the services.
        rest: calls their routes for GraphQL.
        authentication: judges tokens.
        admission: limits, tokens, roles.
        realtime: the WebSocket members.
        description: of the API.
        bridge: events from the broker.
        health: of this process.
        sessions: session look-ups, with connections of their own.
        keys: that verify tokens, kept like auth-service's.
        redis: limiters and session mirror.
        probing: finds out when Redis is back.
    """

    settings: Settings
    upstreams: dict[Service, Upstream]
    rest: Rest
    authentication: Authentication
    admission: AdmissionService
    realtime: RealtimeService
    description: DescriptionService
    bridge: Bridge
    health: Health
    sessions: SessionVerifier
    keys: FreshKeys
    redis: Redis
    probing: Probing

    async def start(self) -> None:
        """Begin the work behind requests; succeeds whatever is down (R0.10)."""
        self.realtime.start()
        await self.keys.start()
        await self.bridge.start(self.realtime.deliver)

    async def close(self) -> None:
        """Give everything back; requests and connections must be over."""
        await self.bridge.close()
        await self.keys.close()
        await self.sessions.close()
        for upstream in self.upstreams.values():
            upstream.close()
        await self.probing.close()
        await self.redis.aclose()


def build(settings: Settings, environ: Mapping[str, str]) -> Gateway:
    """Make the parts; opens no connection.

    Args:
        settings: of service `gateway`.
        environ: for UPSTREAM_SOURCE_ADDRESS, the address from which services are called (R0.16).
    """
    redis = redis_connection.connect(settings.redis_url, timeout_s=redis_connection.GATEWAY_READ_S)
    # Limiters and session check share it: a request waits for a missing Redis once (R6.9).
    circuit = Circuit()
    guarded = GuardedRedis(redis, circuit)
    source_address = environ.get(SOURCE_ADDRESS_VARIABLE, "").strip() or None
    urls = {
        Service.AUTH: settings.auth_service_urls,
        Service.PAYMENTS: settings.payments_service_urls,
        Service.ADMIN: settings.admin_service_urls,
        Service.PROFILE: settings.profile_service_urls,
    }
    upstreams = {
        service: Upstream(
            f"{service}-service",
            addresses,
            timeout_s=settings.upstream_timeout_ms / 1000,
            source_address=source_address,
        )
        for service, addresses in urls.items()
    }
    keys = keys_of_auth_service(settings)
    sessions = SessionVerifier(guarded, settings.auth_service_urls, settings.internal_service_token)
    authenticator = Authenticator(keys, sessions)
    bridge = BrokerBridge(settings.rabbitmq_url, settings.rabbitmq_exchange, instance_name())
    return Gateway(
        settings=settings,
        upstreams=upstreams,
        rest=UpstreamRest(upstreams, settings.internal_service_token),
        authentication=authenticator,
        admission=AdmissionService(
            authenticator,
            RedisGeneralLimiter(guarded, settings.rate_limit_max, settings.rate_limit_window_ms),
            RedisCredentialLimiter(guarded),
            Exemptions(settings.rate_limit_exempt),
        ),
        realtime=RealtimeService(
            authenticator,
            sessions,
            InternalPaymentParties(upstreams[Service.PAYMENTS], settings.internal_service_token),
            forget_session=sessions.forget,
        ),
        description=DescriptionService(
            InternalDescriptions(upstreams, settings.internal_service_token),
            settings.public_origin,
        ),
        bridge=bridge,
        health=Health(settings.service_name, _checks(redis, bridge, upstreams), {"authService"}),
        sessions=sessions,
        keys=keys,
        redis=redis,
        probing=Probing(redis, circuit),
    )


def _checks(
    redis: Redis, bridge: Bridge, upstreams: Mapping[Service, Upstream]
) -> dict[str, Check]:
    """The dependencies by the names of R1.55."""

    def service_answers(upstream: Upstream) -> Check:
        async def check() -> bool:
            status, _ = await upstream.fetch("/health", {}, timeout_s=HEALTH_TIMEOUT_S)
            return status == 200

        return check

    return {
        "redis": partial(redis_connection.ping, redis),
        "rabbitmq": bridge.health,
        **{f"{name}Service": service_answers(upstream) for name, upstream in upstreams.items()},
    }
