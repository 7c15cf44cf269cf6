"""Reads every environment variable of R0.13 once, and refuses a bad set with all faults at once.

`VARIABLES` is the one table: `load` reads by it, and `.env.example` and `.env.required` (R0.18)
are drawn from it: `python -m system.platform.config example|required`.

    ConfigurationError
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from system.platform.http.trusted_proxies import trusted_proxies

VERSION: Final = "0.1.0"
SERVICES: Final = ("auth", "payments", "admin", "profile")
PROCESSES: Final = (*SERVICES, "gateway")
# Parts that read some of the variables without being long-running processes of ours.
READERS: Final = (*PROCESSES, "edge", "dlq", "migration", "frontend")
NAMES: Final[Mapping[str, str]] = {
    "gateway": "api-gateway",
    **{service: f"{service}-service" for service in SERVICES},
}

# R0.14
MINIMUM_SECRET_CHARACTERS: Final = 32
WEAK_PARTS: Final = (
    "change-in-production",
    "change-me",
    "your-secret",
    "default-secret",
    "test-secret",
    "development-only",
    "123456",
)
_FORBIDDEN_CREDENTIALS: Final = ("guest:guest",)
_DEMO_CREDENTIALS: Final = ("admin:admin", "postgres:postgres")
_ENCRYPTED: Final = re.compile(r"ENC\[local:([A-Za-z0-9+/=\s]*)\]")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the environment.

    Attributes:
        variable: its name.
        problem: what was seen and what is expected; never the value of a secret.
    """

    variable: str
    problem: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.problem}"


class ConfigurationError(Exception):
    """The environment cannot be used; `faults` names every faulty variable (R0.14)."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            f"{len(self.faults)} configuration fault(s):\n"
            + "\n".join(f"  {fault}" for fault in self.faults)
        )


class _Unusable(ValueError):
    """A value has the wrong form; the text says seen and expected."""


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


# --- Reading a value ----------------------------------------------------------------------------


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    lowered = value.lower()
    if lowered not in _TRUE | _FALSE:
        raise _Unusable(f"seen {value!r}, expected true or false")
    return lowered in _TRUE


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or not low <= int(value) <= high:
            raise _Unusable(f"seen {value!r}, expected a whole number from {low} to {high}")
        return int(value)

    return read


_port: Final = _whole(1, 65535)


def _share(value: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,12})?|\.\d{1,12}", value) or float(value) > 1:
        raise _Unusable(f"seen {value!r}, expected a share from 0 to 1, such as 0.1")
    return float(value)


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in allowed:
            raise _Unusable(f"seen {value!r}, expected one of {', '.join(allowed)}")
        return value

    return read


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _url(*schemes: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            # The value may hold a password, so it is not repeated.
            raise _Unusable(f"expected a URL such as {schemes[0]}://host:port")
        return value

    return read


def _urls(value: str) -> tuple[str, ...]:
    read = _url("http", "https")
    return tuple(read(item).rstrip("/") for item in _items(value))


_database: Final = _url("postgresql", "postgres")


def _origin(value: str) -> str:
    read = _url("https", "http")(value)
    parts = urlsplit(read)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise _Unusable(f"seen {value!r}, expected an origin such as https://localhost:8443")
    return read.rstrip("/")


def _origins(value: str) -> tuple[str, ...]:
    return tuple(_origin(item) for item in _items(value))


def _proxies(value: str) -> frozenset[str]:
    try:
        return trusted_proxies(_items(value))
    except ValueError as error:
        raise _Unusable(f"{error}; expected addresses or networks, comma-separated") from None


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(item) for item in _items(value))
    except ValueError as error:
        raise _Unusable(f"{error}; expected addresses or networks, comma-separated") from None


def _duration(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}(s|m|h|d)?", value):
        raise _Unusable(f"seen {value!r}, expected a time such as 15m, 12h or 7d")
    return value


def _key(value: str) -> bytes:
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise _Unusable("expected base64 of 32 bytes; make one with `openssl rand -base64 32`")
    return key


def _key_list(value: str) -> str:
    for number, entry in enumerate(_key_entries(value), 1):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), str) and entry[name] for name in ("kid", "secret")
        ):
            raise _Unusable(f"entry {number}: expected an object with the texts kid and secret")
    return value


def _key_entries(value: str) -> list[Any]:
    try:
        entries = json.loads(value)
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not entries:
        raise _Unusable("expected a JSON array of {kid, secret, createdAt, expiresAt, …}")
    return entries


# --- The table ----------------------------------------------------------------------------------

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
            Variable(name, "port", port, _only(service), _port, f"Port of {NAMES[service]}.")
        )
    for service, port in ports.items():
        stem = "API_GATEWAY" if service == "gateway" else f"{service.upper()}_SERVICE"
        rows.append(
            Variable(
                f"{stem}_URL",
                f"{stem.lower()}_urls",
                _default_url(f"{stem}_PORT", port),
                EVERY_PROCESS | {"edge", "migration"},
                _urls,
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
                _database,
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
                _database,
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
        _text,
        "`production` turns production mode on; everything else is development mode.",
    ),
    Variable(
        "BIND_ADDRESS", "bind_address", "127.0.0.1", EVERY_PROCESS, _text, "Where processes listen."
    ),
    Variable(
        "EDGE_HTTP_PORT",
        "edge_http_port",
        "80",
        _only("edge", "gateway", "frontend"),
        _port,
        "Plain HTTP port of the edge.",
    ),
    Variable(
        "EDGE_HTTPS_PORT",
        "edge_https_port",
        "443",
        _only("edge", "gateway", "frontend"),
        _port,
        "TLS port of the edge.",
    ),
    Variable(
        "PUBLIC_ORIGIN",
        "public_origin",
        _default_origin,
        _only("edge", "gateway", "frontend", "auth"),
        _origin,
        "Origin that browsers see.",
        shown_default="https://localhost",
    ),
    *_ports(),
    Variable(
        "UPSTREAM_TIMEOUT_MS",
        "upstream_timeout_ms",
        "30000",
        _only("gateway"),
        _whole(1, 600000),
        "How long the gateway waits for a service's response head, ms.",
    ),
    *_databases(),
    Variable(
        "DATABASE_URL",
        "legacy_database_url",
        None,
        _only("migration"),
        _database,
        "Legacy database, for the migration tool only.",
    ),
    Variable(
        "REDIS_URL",
        "redis_url",
        "redis://localhost:6379",
        EVERY_PROCESS,
        _url("redis", "rediss"),
        "Redis: cache, limits, session mirror.",
    ),
    Variable(
        "RABBITMQ_URL",
        "rabbitmq_url",
        "amqp://admin:admin@localhost:5672",
        EVERY_PROCESS | {"dlq"},
        _url("amqp", "amqps"),
        "RabbitMQ.",
    ),
    Variable(
        "RABBITMQ_EXCHANGE",
        "rabbitmq_exchange",
        "events",
        EVERY_PROCESS | {"dlq"},
        _text,
        "Exchange of the events.",
    ),
    Variable(
        "EVENT_TRANSPORT",
        "event_transport",
        "rabbitmq",
        EVERY_SERVICE,
        _one_of("rabbitmq", "dual"),
        "`rabbitmq`, or `dual` during cut-over.",
    ),
    Variable(
        "JWT_SECRET",
        "jwt_secret",
        _development("JWT_SECRET"),
        EVERY_PROCESS,
        _text,
        "Key of access tokens (kid legacy-v1).",
        secret=True,
    ),
    Variable(
        "JWT_REFRESH_SECRET",
        "jwt_refresh_secret",
        _development("JWT_REFRESH_SECRET"),
        _only("auth"),
        _text,
        "Key of refresh tokens (kid legacy-v1).",
        secret=True,
    ),
    Variable(
        "JWT_SECRETS",
        "jwt_secrets",
        None,
        EVERY_PROCESS,
        _key_list,
        "Keys of access tokens: JSON array of {kid, secret, createdAt, expiresAt, isActive, …}.",
        secret=True,
    ),
    Variable(
        "JWT_REFRESH_SECRETS",
        "jwt_refresh_secrets",
        None,
        _only("auth"),
        _key_list,
        "Keys of refresh tokens, as JWT_SECRETS.",
        secret=True,
    ),
    Variable(
        "JWT_EXPIRES_IN",
        "jwt_expires_in",
        "15m",
        _only("auth"),
        _duration,
        "Life of an access token.",
    ),
    Variable(
        "JWT_REFRESH_EXPIRES_IN",
        "jwt_refresh_expires_in",
        "7d",
        _only("auth"),
        _duration,
        "Life of a refresh token.",
    ),
    Variable(
        "INTERNAL_SERVICE_TOKEN",
        "internal_service_token",
        _development("INTERNAL_SERVICE_TOKEN"),
        EVERY_PROCESS,
        _text,
        "Opens the routes below /internal/.",
        secret=True,
    ),
    Variable(
        "PSP_WEBHOOK_SECRET",
        "psp_webhook_secret",
        _development("PSP_WEBHOOK_SECRET"),
        _only("payments"),
        _text,
        "Signs the payment provider's webhooks.",
        secret=True,
    ),
    Variable(
        "SECRETS_ENCRYPTION_KEY",
        "secrets_encryption_key",
        None,
        ALL,
        _key,
        "Base64 of 32 bytes; decrypts ENC[local:…] values.",
        secret=True,
    ),
    Variable(
        "ARGON2_MEMORY_KIB",
        "argon2_memory_kib",
        "19456",
        _only("auth"),
        _whole(19456, 4194304),
        "Memory of a password hash, KiB; the default is the minimum.",
    ),
    Variable(
        "ARGON2_TIME",
        "argon2_time",
        "2",
        _only("auth"),
        _whole(2, 100),
        "Passes of a password hash; the default is the minimum.",
    ),
    Variable(
        "ARGON2_PARALLELISM",
        "argon2_parallelism",
        "1",
        _only("auth"),
        _whole(1, 64),
        "Lanes of a password hash; the default is the minimum.",
    ),
    Variable(
        "TRUSTED_PROXIES",
        "trusted_proxies",
        "",
        EVERY_PROCESS,
        _proxies,
        "Addresses and networks whose X-Forwarded-For is believed, comma-separated.",
    ),
    Variable(
        "RATE_LIMIT_EXEMPT",
        "rate_limit_exempt",
        "",
        # auth-service counts failed logins (R1.44, R1.80).
        _only("edge", "gateway", "auth"),
        _networks,
        "Addresses and networks without limits, comma-separated.",
    ),
    Variable(
        "RATE_LIMIT_WINDOW_MS",
        "rate_limit_window_ms",
        "900000",
        _only("gateway"),
        _whole(1, 86400000),
        "Window of the general limiter, ms.",
    ),
    Variable(
        "RATE_LIMIT_MAX",
        "rate_limit_max",
        "2000",
        _only("gateway"),
        _whole(1, 1000000000),
        "Requests per window and client address.",
    ),
    Variable(
        "CORS_ORIGINS",
        "cors_origins",
        _default_cors,
        # auth-service needs it for the cookie transport (R1.72).
        _only("gateway", "auth"),
        _origins,
        "Origins that browsers may call from, comma-separated.",
        shown_default="https://localhost,http://localhost:4200,http://localhost:4201,"
        "http://localhost:4202,http://localhost:4203,http://localhost:4204",
    ),
    Variable(
        "API_DOCS_ENABLED",
        "api_docs_enabled",
        _default_docs,
        _only("gateway", "edge"),
        _flag,
        "Serves /api-docs; false by default in production mode.",
        shown_default="true",
    ),
    Variable(
        "ALLOW_DEMO_CREDENTIALS",
        "allow_demo_credentials",
        "false",
        ALL,
        _flag,
        "Lets production mode use the demo accounts and admin/postgres passwords.",
    ),
    Variable(
        "DIAGNOSTICS_ENABLED",
        "diagnostics_enabled",
        "false",
        EVERY_SERVICE,
        _flag,
        "Consumers understand diagnostics.probe.",
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otel_exporter_otlp_endpoint",
        "http://localhost:4318/v1/traces",
        ALL,
        _url("http", "https"),
        "Where traces go.",
    ),
    Variable("OTEL_ENABLED", "otel_enabled", "true", ALL, _flag, "Traces are on unless false."),
    Variable(
        "SENTRY_DSN", "sentry_dsn", None, ALL, _text, "Error reports go there; none if unset."
    ),
    Variable(
        "SENTRY_ENVIRONMENT",
        "sentry_environment",
        None,
        ALL,
        _text,
        "Environment of error reports; NODE_ENV if unset.",
    ),
    Variable(
        "SENTRY_RELEASE",
        "sentry_release",
        None,
        ALL,
        _text,
        "Release of error reports; <service>@<version> if unset.",
    ),
    Variable(
        "SENTRY_TRACES_SAMPLE_RATE",
        "sentry_traces_sample_rate",
        _default_sample_rate,
        EVERY_PROCESS,
        _share,
        "Share of requests that Sentry measures; 0.1 in production mode.",
        shown_default="1.0",
    ),
    Variable(
        "SENTRY_PROFILES_SAMPLE_RATE",
        "sentry_profiles_sample_rate",
        _default_sample_rate,
        EVERY_PROCESS,
        _share,
        "Share of the measured requests that Sentry profiles; 0.1 in production mode.",
        shown_default="1.0",
    ),
    Variable(
        "NGINX_HOST",
        "nginx_host",
        "localhost",
        _only("edge"),
        lambda value: tuple(_items(value)),
        "Host names of the edge, comma-separated; redirects go to the first.",
    ),
    Variable(
        "SSL_CERT_PATH", "ssl_cert_path", None, _only("edge"), _text, "Certificate chain, PEM."
    ),
    Variable("SSL_KEY_PATH", "ssl_key_path", None, _only("edge"), _text, "Its private key, PEM."),
    Variable(
        "NX_API_BASE_URL",
        "nx_api_base_url",
        "https://localhost/api",
        _only("frontend"),
        _text,
        "API as the browser sees it.",
    ),
    Variable(
        "NX_WS_URL",
        "nx_ws_url",
        "wss://localhost/ws",
        _only("frontend"),
        _text,
        "WebSocket as the browser sees it.",
    ),
    Variable(
        "NX_HTTPS_MODE",
        "nx_https_mode",
        None,
        _only("frontend"),
        _text,
        "Development servers use TLS.",
    ),
    Variable(
        "NX_SENTRY_DSN",
        "nx_sentry_dsn",
        None,
        _only("frontend"),
        _text,
        "Error reports of the browser; none if unset.",
    ),
)

# A list of keys may stand in the place of the single key (R0.14).
_STANDS_FOR: Final = {"JWT_SECRET": "JWT_SECRETS", "JWT_REFRESH_SECRET": "JWT_REFRESH_SECRETS"}
_LISTS: Final = frozenset(_STANDS_FOR.values())


# --- Loading ------------------------------------------------------------------------------------


def is_production(environ: Environ) -> bool:
    """R0.3: production mode is NODE_ENV=production, exactly."""
    return environ.get("NODE_ENV", "").strip() == "production"


def decrypt(value: str, key: bytes | None) -> str:
    """Return a value in the clear (R0.15).

    Args:
        value: any text; only `ENC[local:<base64>]` is changed.
        key: the 32 bytes of SECRETS_ENCRYPTION_KEY, or None.

    Raises:
        ValueError: the value is encrypted and cannot be decrypted; says why.
    """
    if not value.startswith("ENC["):
        return value
    found = _ENCRYPTED.fullmatch(value)
    if found is None:
        raise _Unusable("starts with ENC[, expected ENC[local:<base64>]")
    if key is None:
        raise _Unusable("is encrypted; set SECRETS_ENCRYPTION_KEY to the key it was encrypted with")
    try:
        sealed = base64.b64decode(found[1], validate=True)
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise _Unusable("the encrypted value is cut off; encrypt it again")
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
    except (binascii.Error, UnicodeDecodeError, InvalidTag):
        raise _Unusable(
            "cannot be decrypted: another SECRETS_ENCRYPTION_KEY, or the value was changed"
        ) from None


def encrypt(value: str, key: bytes) -> str:
    """Return `value` as `ENC[local:…]` under `key` (R0.15)."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, value.encode(), None)
    return f"ENC[local:{base64.b64encode(sealed).decode()}]"


def load(service: str, environ: Mapping[str, str]) -> Settings:
    """Read the variables that a process reads.

    Args:
        service: its short name, one of `READERS`.
        environ: the environment; blank values count as not set.

    Returns:
        The settings, complete and checked.

    Raises:
        ConfigurationError: names every faulty variable at once (R0.14).
    """
    if service not in READERS:
        raise ValueError(f"seen service {service!r}, expected one of {', '.join(READERS)}")
    faults: list[Fault] = []
    production = is_production(environ)
    given = _in_the_clear(environ, service, faults)
    # A default that is drawn from another variable fails with it; told only if nobody else tells.
    derived: list[Fault] = []
    values: dict[str, Any] = {}
    broken = {fault.variable for fault in faults}
    for variable in VARIABLES:
        if service not in variable.readers or variable.name in broken:
            continue
        text = given.get(variable.name)
        if text is None:
            text = _default(variable, given, production=production)
        if text is None:
            if variable.required:
                faults.append(Fault(variable.name, f"not set; expected: {variable.meaning}"))
            continue
        try:
            values[variable.attribute] = variable.read(text)
        except _Unusable as error:
            (faults if variable.name in given else derived).append(Fault(variable.name, str(error)))
    if production:
        faults.extend(_production_faults(service, given))
    if faults or derived:
        raise ConfigurationError(_once(faults or derived))
    return Settings(
        service=service,
        service_name=NAMES.get(service, service),
        production=production,
        **values,
    )


def load_or_exit(service: str, environ: Mapping[str, str] | None = None) -> Settings:
    """As `load` for a process's entry: on faults print them all and exit with 2 (R0.14)."""
    try:
        return load(service, os.environ if environ is None else environ)
    except ConfigurationError as error:
        _refuse(f"{NAMES.get(service, service)} does not start. {error}")


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    raise SystemExit(2)


def _once(faults: list[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


def _in_the_clear(environ: Environ, service: str, faults: list[Fault]) -> dict[str, str]:
    """Return the variables that are set and that `service` reads, decrypted."""
    names = {variable.name for variable in VARIABLES if service in variable.readers}
    # Defaults of other variables are derived from these.
    names |= {"EDGE_HTTPS_PORT", *(variable.name for variable in VARIABLES if _is_port(variable))}
    given = {
        name: value.strip() for name, value in environ.items() if name in names and value.strip()
    }
    key: bytes | None = None
    if "SECRETS_ENCRYPTION_KEY" in given:
        try:
            key = _key(given["SECRETS_ENCRYPTION_KEY"])
        except _Unusable:
            key = None  # reported by its own row
    for name, value in given.items():
        try:
            given[name] = decrypt(value, key)
        except _Unusable as error:
            faults.append(Fault(name, str(error)))
    return given


def _is_port(variable: Variable) -> bool:
    return variable.attribute == "port"


def _default(variable: Variable, given: Environ, *, production: bool) -> str | None:
    if variable.secret and production:
        return None
    if variable.name in _STANDS_FOR and _STANDS_FOR[variable.name] in given:
        # The development key must not join a ring that was given on purpose.
        return None
    return variable.default(given) if callable(variable.default) else variable.default


def _production_faults(service: str, given: Environ) -> Iterable[Fault]:
    for variable in VARIABLES:
        if service not in variable.readers:
            continue
        value = given.get(variable.name)
        if variable.secret:
            yield from _secret_faults(variable, value, given, service)
        elif value is not None and _carries_credentials(variable):
            yield from _credential_faults(variable.name, value, given)
        elif value is None and variable.name == "RABBITMQ_URL":
            yield from _credential_faults(variable.name, str(variable.default), given)


def _secret_faults(
    variable: Variable, value: str | None, given: Environ, service: str
) -> Iterable[Fault]:
    name = variable.name
    if value is None:
        if name in _LISTS or (name in _STANDS_FOR and _STANDS_FOR[name] in given):
            return
        if service not in PROCESSES:
            # Tools need the key only to decrypt, which reports its absence itself.
            return
        instead = f" (or {_STANDS_FOR[name]})" if name in _STANDS_FOR else ""
        yield Fault(name, f"not set{instead}; production mode needs it")
        return
    secrets = {"": value}
    if name in _LISTS:
        try:
            secrets = {
                f"key {entry.get('kid')!r}: ": str(entry.get("secret", ""))
                for entry in _key_entries(value)
                if isinstance(entry, dict)
            }
        except _Unusable:
            return  # reported by its own row
    for where, secret in secrets.items():
        if len(secret) < MINIMUM_SECRET_CHARACTERS:
            yield Fault(
                name,
                f"{where}seen {len(secret)} characters, "
                f"expected at least {MINIMUM_SECRET_CHARACTERS}",
            )
        yield from (
            Fault(name, f"{where}contains {weak!r}; generate a random one")
            for weak in WEAK_PARTS
            if weak in secret.lower()
        )


def _carries_credentials(variable: Variable) -> bool:
    return variable.name == "RABBITMQ_URL" or variable.name.endswith("DATABASE_URL")


def _credential_faults(name: str, url: str, given: Environ) -> Iterable[Fault]:
    demo_allowed = given.get("ALLOW_DEMO_CREDENTIALS", "").lower() in _TRUE
    for pair in _FORBIDDEN_CREDENTIALS:
        if pair in url:
            yield Fault(name, f"carries {pair}; give the process a user of its own")
    for pair in _DEMO_CREDENTIALS:
        if pair in url and not demo_allowed:
            yield Fault(
                name,
                f"carries {pair}; give the process a user of its own, "
                "or set ALLOW_DEMO_CREDENTIALS=true on a demonstration system",
            )


# --- Generated files (R0.18) --------------------------------------------------------------------


def example() -> str:
    """Return the text of `.env.example`: every variable with its default and meaning."""
    lines = [
        "# Every variable, its default and meaning.",
        "# Generated: python -m system.platform.config example > .env.example",
        "",
    ]
    for variable in VARIABLES:
        default = variable.shown_default or (
            variable.default if isinstance(variable.default, str) else ""
        )
        if variable.secret and default:
            default = ""
        lines += [f"# {variable.meaning}", f"{variable.name}={default}", ""]
    return "\n".join(lines).rstrip() + "\n"


def required() -> str:
    """Return the text of `.env.required`: what production mode does not start without (R0.14)."""
    lines = [
        "# Production mode refuses to start without these.",
        "# Generated: python -m system.platform.config required > .env.required",
        "",
    ]
    lines += [
        f"{variable.name}="
        for variable in VARIABLES
        if (variable.secret and variable.name not in _LISTS) or variable.required
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Print one of the generated files."""
    texts = {"example": example, "required": required}
    if len(arguments) != 1 or arguments[0] not in texts:
        sys.stderr.write("usage: python -m system.platform.config example|required\n")
        return 2
    sys.stdout.write(texts[arguments[0]]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
