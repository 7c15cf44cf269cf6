"""The table of R0.13: every variable with its default, its readers and its meaning.

`loading` reads by it, and `.env.example` and `.env.required` (R0.18) are drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from system.platform.config import values
from system.platform.config.settings import NAMES, PROCESSES, READERS, SERVICES

ALL: Final = frozenset(READERS)
EVERY_PROCESS: Final = frozenset(PROCESSES)
EVERY_SERVICE: Final = frozenset(SERVICES)
Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of R0.13.

    Attributes:
        name: of the environment variable.
        attribute: of `Settings`.
        default: in force when the variable is not set; None if there is none; a function where it
            depends on other variables.
        readers: short names of the parts that read it.
        read: turns the text into the attribute's value.
        meaning: one line for people.
        shown_default: what `.env.example` shows when `default` is a function.
        secret: R0.14 applies; `default` is then for development mode only.
        required: the readers that cannot start without it, in either mode.
    """

    name: str
    attribute: str
    default: str | Callable[[Environ], str] | None
    readers: frozenset[str]
    read: Callable[[str], Any]
    meaning: str
    shown_default: str | None = None
    secret: bool = False
    required: bool = False


def is_production(environ: Environ) -> bool:
    """R0.3: production mode is NODE_ENV=production, exactly."""
    return environ.get("NODE_ENV", "").strip() == "production"


def _only(*readers: str) -> frozenset[str]:
    return frozenset(readers)


def _set(environ: Environ, name: str, default: str) -> str:
    return environ.get(name, "").strip() or default


def _default_origin(environ: Environ) -> str:
    port = _set(environ, "EDGE_HTTPS_PORT", "443")
    return "https://localhost" + ("" if port == "443" else f":{port}")


def _default_cors(environ: Environ) -> str:
    origin = _set(environ, "PUBLIC_ORIGIN", _default_origin(environ))
    return ",".join([origin, *(f"http://localhost:{port}" for port in range(4200, 4205))])


def _default_docs(environ: Environ) -> str:
    return "false" if is_production(environ) else "true"


def _default_sample_rate(environ: Environ) -> str:
    return "0.1" if is_production(environ) else "1.0"


def _default_url(port_name: str, port: str) -> Callable[[Environ], str]:
    return lambda environ: f"http://localhost:{_set(environ, port_name, port)}"


def _ports() -> list[Variable]:
    ports = {"gateway": "3000", "auth": "3001", "payments": "3002", "admin": "3003"}
    ports["profile"] = "3004"
    rows = []
    for service, port in ports.items():
        name = "API_GATEWAY_PORT" if service == "gateway" else f"{service.upper()}_SERVICE_PORT"
        rows.append(
            Variable(name, "port", port, _only(service), values.port, f"Port of {NAMES[service]}.")
        )
    for service, port in ports.items():
        stem = "API_GATEWAY" if service == "gateway" else f"{service.upper()}_SERVICE"
        rows.append(
            Variable(
                f"{stem}_URL",
                f"{stem.lower()}_urls",
                _default_url(f"{stem}_PORT", port),
                EVERY_PROCESS | {"edge", "migration"},
                values.urls,
                f"Where callers find {NAMES[service]}; comma-separated for several instances.",
                shown_default=f"http://localhost:{port}",
            )
        )
    return rows


def _databases() -> list[Variable]:
    return [
        *(
            Variable(
                f"{service.upper()}_DATABASE_URL",
                "database_url",
                None,
                _only(service),
                values.database,
                f"{service}_db with the role of {service}-service.",
                required=True,
            )
            for service in SERVICES
        ),
        *(
            Variable(
                f"{service.upper()}_MIGRATION_DATABASE_URL",
                f"{service}_migration_database_url",
                None,
                _only(service, "migration"),
                values.database,
                f"{service}_db with its owner role, for schema and data migration only.",
            )
            for service in SERVICES
        ),
    ]


def _development(name: str) -> str:
    return f"development-only-{name.lower().replace('_', '-')}-never-in-production"


VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        "NODE_ENV",
        "node_env",
        "development",
        ALL,
        values.text,
        "`production` turns production mode on; everything else is development mode.",
    ),
    Variable(
        "BIND_ADDRESS",
        "bind_address",
        "127.0.0.1",
        EVERY_PROCESS,
        values.text,
        "Where processes listen.",
    ),
    Variable(
        "EDGE_HTTP_PORT",
        "edge_http_port",
        "80",
        _only("edge", "gateway", "frontend"),
        values.port,
        "Plain HTTP port of the edge.",
    ),
    Variable(
        "EDGE_HTTPS_PORT",
        "edge_https_port",
        "443",
        _only("edge", "gateway", "frontend"),
        values.port,
        "TLS port of the edge.",
    ),
    Variable(
        "PUBLIC_ORIGIN",
        "public_origin",
        _default_origin,
        _only("edge", "gateway", "frontend", "auth"),
        values.origin,
        "Origin that browsers see.",
        shown_default="https://localhost",
    ),
    *_ports(),
    Variable(
        "UPSTREAM_TIMEOUT_MS",
        "upstream_timeout_ms",
        "30000",
        _only("gateway"),
        values.whole(1, 600000),
        "How long the gateway waits for a service's response head, ms.",
    ),
    *_databases(),
    Variable(
        "DATABASE_URL",
        "legacy_database_url",
        None,
        _only("migration"),
        values.database,
        "Legacy database, for the migration tool only.",
    ),
    Variable(
        "REDIS_URL",
        "redis_url",
        "redis://localhost:6379",
        EVERY_PROCESS,
        values.url("redis", "rediss"),
        "Redis: cache, limits, session mirror.",
    ),
    Variable(
        "RABBITMQ_URL",
        "rabbitmq_url",
        "amqp://admin:admin@localhost:5672",
        EVERY_PROCESS | {"dlq"},
        values.url("amqp", "amqps"),
        "RabbitMQ.",
    ),
    Variable(
        "RABBITMQ_EXCHANGE",
        "rabbitmq_exchange",
        "events",
        EVERY_PROCESS | {"dlq"},
        values.text,
        "Exchange of the events.",
    ),
    Variable(
        "EVENT_TRANSPORT",
        "event_transport",
        "rabbitmq",
        EVERY_SERVICE,
        values.one_of("rabbitmq", "dual"),
        "`rabbitmq`, or `dual` during cut-over.",
    ),
    Variable(
        "JWT_SECRET",
        "jwt_secret",
        _development("JWT_SECRET"),
        EVERY_PROCESS,
        values.text,
        "Key of access tokens (kid legacy-v1).",
        secret=True,
    ),
    Variable(
        "JWT_REFRESH_SECRET",
        "jwt_refresh_secret",
        _development("JWT_REFRESH_SECRET"),
        _only("auth"),
        values.text,
        "Key of refresh tokens (kid legacy-v1).",
        secret=True,
    ),
    Variable(
        "JWT_SECRETS",
        "jwt_secrets",
        None,
        EVERY_PROCESS,
        values.key_list,
        "Keys of access tokens: JSON array of {kid, secret, createdAt, expiresAt, isActive, …}.",
        secret=True,
    ),
    Variable(
        "JWT_REFRESH_SECRETS",
        "jwt_refresh_secrets",
        None,
        _only("auth"),
        values.key_list,
        "Keys of refresh tokens, as JWT_SECRETS.",
        secret=True,
    ),
    Variable(
        "JWT_EXPIRES_IN",
        "jwt_expires_in",
        "15m",
        _only("auth"),
        values.duration,
        "Life of an access token.",
    ),
    Variable(
        "JWT_REFRESH_EXPIRES_IN",
        "jwt_refresh_expires_in",
        "7d",
        _only("auth"),
        values.duration,
        "Life of a refresh token.",
    ),
    Variable(
        "INTERNAL_SERVICE_TOKEN",
        "internal_service_token",
        _development("INTERNAL_SERVICE_TOKEN"),
        EVERY_PROCESS,
        values.text,
        "Opens the routes below /internal/.",
        secret=True,
    ),
    Variable(
        "PSP_WEBHOOK_SECRET",
        "psp_webhook_secret",
        _development("PSP_WEBHOOK_SECRET"),
        _only("payments"),
        values.text,
        "Signs the payment provider's webhooks.",
        secret=True,
    ),
    Variable(
        "SECRETS_ENCRYPTION_KEY",
        "secrets_encryption_key",
        None,
        ALL,
        values.encryption_key,
        "Base64 of 32 bytes; decrypts ENC[local:…] values.",
        secret=True,
    ),
    Variable(
        "ARGON2_MEMORY_KIB",
        "argon2_memory_kib",
        "19456",
        _only("auth"),
        values.whole(19456, 4194304),
        "Memory of a password hash, KiB; the default is the minimum.",
    ),
    Variable(
        "ARGON2_TIME",
        "argon2_time",
        "2",
        _only("auth"),
        values.whole(2, 100),
        "Passes of a password hash; the default is the minimum.",
    ),
    Variable(
        "ARGON2_PARALLELISM",
        "argon2_parallelism",
        "1",
        _only("auth"),
        values.whole(1, 64),
        "Lanes of a password hash; the default is the minimum.",
    ),
    Variable(
        "TRUSTED_PROXIES",
        "trusted_proxies",
        "",
        EVERY_PROCESS,
        values.proxies,
        "Addresses and networks whose X-Forwarded-For is believed, comma-separated.",
    ),
    Variable(
        "RATE_LIMIT_EXEMPT",
        "rate_limit_exempt",
        "",
        # auth-service counts failed logins (R1.44, R1.80).
        _only("edge", "gateway", "auth"),
        values.networks,
        "Addresses and networks without limits, comma-separated.",
    ),
    Variable(
        "RATE_LIMIT_WINDOW_MS",
        "rate_limit_window_ms",
        "900000",
        _only("gateway"),
        values.whole(1, 86400000),
        "Window of the general limiter, ms.",
    ),
    Variable(
        "RATE_LIMIT_MAX",
        "rate_limit_max",
        "2000",
        _only("gateway"),
        values.whole(1, 1000000000),
        "Requests per window and client address.",
    ),
    Variable(
        "CORS_ORIGINS",
        "cors_origins",
        _default_cors,
        # auth-service needs it for the cookie transport (R1.72).
        _only("gateway", "auth"),
        values.origins,
        "Origins that browsers may call from, comma-separated.",
        shown_default="https://localhost,http://localhost:4200,http://localhost:4201,"
        "http://localhost:4202,http://localhost:4203,http://localhost:4204",
    ),
    Variable(
        "API_DOCS_ENABLED",
        "api_docs_enabled",
        _default_docs,
        _only("gateway", "edge"),
        values.flag,
        "Serves /api-docs; false by default in production mode.",
        shown_default="true",
    ),
    Variable(
        "ALLOW_DEMO_CREDENTIALS",
        "allow_demo_credentials",
        "false",
        ALL,
        values.flag,
        "Lets production mode use the demo accounts and admin/postgres passwords.",
    ),
    Variable(
        "DIAGNOSTICS_ENABLED",
        "diagnostics_enabled",
        "false",
        EVERY_SERVICE,
        values.flag,
        "Consumers understand diagnostics.probe.",
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otel_exporter_otlp_endpoint",
        "http://localhost:4318/v1/traces",
        ALL,
        values.url("http", "https"),
        "Where traces go.",
    ),
    Variable(
        "OTEL_ENABLED", "otel_enabled", "true", ALL, values.flag, "Traces are on unless false."
    ),
    Variable(
        "SENTRY_DSN", "sentry_dsn", None, ALL, values.text, "Error reports go there; none if unset."
    ),
    Variable(
        "SENTRY_ENVIRONMENT",
        "sentry_environment",
        None,
        ALL,
        values.text,
        "Environment of error reports; NODE_ENV if unset.",
    ),
    Variable(
        "SENTRY_RELEASE",
        "sentry_release",
        None,
        ALL,
        values.text,
        "Release of error reports; <service>@<version> if unset.",
    ),
    Variable(
        "SENTRY_TRACES_SAMPLE_RATE",
        "sentry_traces_sample_rate",
        _default_sample_rate,
        EVERY_PROCESS,
        values.share,
        "Share of requests that Sentry measures; 0.1 in production mode.",
        shown_default="1.0",
    ),
    Variable(
        "SENTRY_PROFILES_SAMPLE_RATE",
        "sentry_profiles_sample_rate",
        _default_sample_rate,
        EVERY_PROCESS,
        values.share,
        "Share of the measured requests that Sentry profiles; 0.1 in production mode.",
        shown_default="1.0",
    ),
    Variable(
        "NGINX_HOST",
        "nginx_host",
        "localhost",
        _only("edge"),
        lambda value: tuple(values.items(value)),
        "Host names of the edge, comma-separated; redirects go to the first.",
    ),
    Variable(
        "SSL_CERT_PATH",
        "ssl_cert_path",
        None,
        _only("edge"),
        values.text,
        "Certificate chain, PEM.",
    ),
    Variable(
        "SSL_KEY_PATH", "ssl_key_path", None, _only("edge"), values.text, "Its private key, PEM."
    ),
    Variable(
        "NX_API_BASE_URL",
        "nx_api_base_url",
        "https://localhost/api",
        _only("frontend"),
        values.text,
        "API as the browser sees it.",
    ),
    Variable(
        "NX_WS_URL",
        "nx_ws_url",
        "wss://localhost/ws",
        _only("frontend"),
        values.text,
        "WebSocket as the browser sees it.",
    ),
    Variable(
        "NX_HTTPS_MODE",
        "nx_https_mode",
        None,
        _only("frontend"),
        values.text,
        "Development servers use TLS.",
    ),
    Variable(
        "NX_SENTRY_DSN",
        "nx_sentry_dsn",
        None,
        _only("frontend"),
        values.text,
        "Error reports of the browser; none if unset.",
    ),
)
# A list of keys may stand in the place of the single key (R0.14).
STANDS_FOR: Final = {"JWT_SECRET": "JWT_SECRETS", "JWT_REFRESH_SECRET": "JWT_REFRESH_SECRETS"}
LISTS: Final = frozenset(STANDS_FOR.values())
