"""What a process was told: its settings, and the names of the processes that have some."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import msgspec

VERSION: Final = "0.1.0"
SERVICES: Final = ("auth", "payments", "admin", "profile")
PROCESSES: Final = (*SERVICES, "gateway")
# Parts that read some of the variables without being long-running processes of ours.
READERS: Final = (*PROCESSES, "edge", "dlq", "migration", "frontend")
NAMES: Final[Mapping[str, str]] = {
    "gateway": "api-gateway",
    **{service: f"{service}-service" for service in SERVICES},
}
Network = IPv4Network | IPv6Network


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one process was told.  A variable the process does not read has its empty value.

    Attributes are the variables of R0.13 in snake_case; besides them:

    Attributes:
        service: short name: auth, payments, admin, profile, gateway (or a tool's).
        service_name: name in answers, events and logs: auth-service, api-gateway, …
        version: of this software.
        production: NODE_ENV is production (R0.3).
        bind_address: where the process listens (R0.7).
        port: the process's own *_PORT.
        database_url: the service's own *_DATABASE_URL, with its own role (R0.19).
        auth_migration_database_url …: the *_MIGRATION_DATABASE_URL, with the owner role; a service
            has its own only, the migration tool all four.
        legacy_database_url: DATABASE_URL, which only the migration tool reads.
    """

    service: str
    service_name: str
    version: str = VERSION
    production: bool = False
    bind_address: str = "127.0.0.1"
    port: int = 0
    database_url: str = ""
    auth_migration_database_url: str = ""
    payments_migration_database_url: str = ""
    admin_migration_database_url: str = ""
    profile_migration_database_url: str = ""
    legacy_database_url: str = ""

    node_env: str = "development"
    edge_http_port: int = 80
    edge_https_port: int = 443
    public_origin: str = "https://localhost"
    auth_service_urls: tuple[str, ...] = ()
    payments_service_urls: tuple[str, ...] = ()
    admin_service_urls: tuple[str, ...] = ()
    profile_service_urls: tuple[str, ...] = ()
    api_gateway_urls: tuple[str, ...] = ()
    upstream_timeout_ms: int = 30000
    redis_url: str = ""
    rabbitmq_url: str = ""
    rabbitmq_exchange: str = "events"
    event_transport: str = "rabbitmq"
    jwt_secret: str | None = None
    jwt_refresh_secret: str | None = None
    jwt_secrets: str | None = None
    jwt_refresh_secrets: str | None = None
    jwt_expires_in: str = "15m"
    jwt_refresh_expires_in: str = "7d"
    internal_service_token: str = ""
    psp_webhook_secret: str = ""
    secrets_encryption_key: bytes | None = None
    argon2_memory_kib: int = 19456
    argon2_time: int = 2
    argon2_parallelism: int = 1
    trusted_proxies: frozenset[str] = frozenset()
    rate_limit_exempt: tuple[Network, ...] = ()
    rate_limit_window_ms: int = 900000
    rate_limit_max: int = 2000
    cors_origins: tuple[str, ...] = ()
    api_docs_enabled: bool = False
    allow_demo_credentials: bool = False
    diagnostics_enabled: bool = False
    otel_exporter_otlp_endpoint: str = ""
    otel_enabled: bool = True
    sentry_dsn: str | None = None
    sentry_environment: str | None = None
    sentry_release: str | None = None
    sentry_traces_sample_rate: float = 1.0
    sentry_profiles_sample_rate: float = 1.0
    nginx_host: tuple[str, ...] = ()
    ssl_cert_path: str | None = None
    ssl_key_path: str | None = None
    nx_api_base_url: str = ""
    nx_ws_url: str = ""
    nx_https_mode: str | None = None
    nx_sentry_dsn: str | None = None

    def owner_url(self, service: str) -> str:
        """The *_MIGRATION_DATABASE_URL of a service; empty when it is not set or not ours."""
        return str(getattr(self, f"{service}_migration_database_url"))

    def __repr__(self) -> str:
        # The generated one would print secrets into the first traceback that holds it.
        return f"Settings(service={self.service!r}, production={self.production})"
