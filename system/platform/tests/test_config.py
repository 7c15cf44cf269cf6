"""R0.13-R0.15, R0.18: the environment is read once, completely, and refused with all faults."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from system.platform.config.encryption import decrypt, encrypt
from system.platform.config.environment_files import example, required
from system.platform.config.faults import ConfigurationError
from system.platform.config.loading import load
from system.platform.config.settings import PROCESSES, READERS, Settings
from system.platform.config.variables import VARIABLES

DATABASE = "postgresql://auth_service:pw@127.0.0.1:5432/auth_db"
KEY = base64.b64encode(bytes(range(32))).decode()
GOOD = "k3Jd8sPq0vLx7TzRwYb2NcFg5HmAe9Ui"
PRODUCTION = {
    "NODE_ENV": "production",
    "AUTH_DATABASE_URL": DATABASE,
    "PAYMENTS_DATABASE_URL": "postgresql://payments_service:pw@127.0.0.1:5433/payments_db",
    "ADMIN_DATABASE_URL": "postgresql://admin_service:pw@127.0.0.1:5434/admin_db",
    "PROFILE_DATABASE_URL": "postgresql://profile_service:pw@127.0.0.1:5435/profile_db",
    "RABBITMQ_URL": "amqp://seatrial:pw@localhost:5672",
    "JWT_SECRET": GOOD,
    "JWT_REFRESH_SECRET": GOOD + "r",
    "INTERNAL_SERVICE_TOKEN": GOOD + "i",
    "PSP_WEBHOOK_SECRET": GOOD + "p",
    "SECRETS_ENCRYPTION_KEY": KEY,
}


# R0.13.
CONTRACTED = {
    *("NODE_ENV", "EDGE_HTTP_PORT", "EDGE_HTTPS_PORT", "PUBLIC_ORIGIN", "API_GATEWAY_PORT"),
    *("AUTH_SERVICE_PORT", "PAYMENTS_SERVICE_PORT", "ADMIN_SERVICE_PORT", "PROFILE_SERVICE_PORT"),
    *("AUTH_SERVICE_URL", "PAYMENTS_SERVICE_URL", "ADMIN_SERVICE_URL", "PROFILE_SERVICE_URL"),
    *("API_GATEWAY_URL", "UPSTREAM_TIMEOUT_MS", "AUTH_DATABASE_URL", "PAYMENTS_DATABASE_URL"),
    *("ADMIN_DATABASE_URL", "PROFILE_DATABASE_URL", "AUTH_MIGRATION_DATABASE_URL"),
    *("PAYMENTS_MIGRATION_DATABASE_URL", "ADMIN_MIGRATION_DATABASE_URL"),
    *("PROFILE_MIGRATION_DATABASE_URL", "DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"),
    *("RABBITMQ_EXCHANGE", "EVENT_TRANSPORT", "JWT_SECRET", "JWT_REFRESH_SECRET", "JWT_SECRETS"),
    *("JWT_REFRESH_SECRETS", "JWT_EXPIRES_IN", "JWT_REFRESH_EXPIRES_IN"),
    *("INTERNAL_SERVICE_TOKEN", "PSP_WEBHOOK_SECRET", "SECRETS_ENCRYPTION_KEY"),
    *("ARGON2_MEMORY_KIB", "ARGON2_TIME", "ARGON2_PARALLELISM", "TRUSTED_PROXIES"),
    *("RATE_LIMIT_EXEMPT", "RATE_LIMIT_WINDOW_MS", "RATE_LIMIT_MAX", "CORS_ORIGINS"),
    *("API_DOCS_ENABLED", "ALLOW_DEMO_CREDENTIALS", "DIAGNOSTICS_ENABLED"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_ENABLED", "SENTRY_DSN", "SENTRY_ENVIRONMENT"),
    *("SENTRY_RELEASE", "NGINX_HOST", "SSL_CERT_PATH", "SSL_KEY_PATH", "NX_API_BASE_URL"),
    *("NX_WS_URL", "NX_HTTPS_MODE", "NX_SENTRY_DSN"),
}


DEFAULTS = {
    "NODE_ENV": "development",
    "EDGE_HTTP_PORT": "80",
    "EDGE_HTTPS_PORT": "443",
    "API_GATEWAY_PORT": "3000",
    "AUTH_SERVICE_PORT": "3001",
    "PAYMENTS_SERVICE_PORT": "3002",
    "ADMIN_SERVICE_PORT": "3003",
    "PROFILE_SERVICE_PORT": "3004",
    "UPSTREAM_TIMEOUT_MS": "30000",
    "REDIS_URL": "redis://localhost:6379",
    "RABBITMQ_URL": "amqp://admin:admin@localhost:5672",
    "RABBITMQ_EXCHANGE": "events",
    "EVENT_TRANSPORT": "rabbitmq",
    "JWT_EXPIRES_IN": "15m",
    "JWT_REFRESH_EXPIRES_IN": "7d",
    "ARGON2_MEMORY_KIB": "19456",
    "ARGON2_TIME": "2",
    "ARGON2_PARALLELISM": "1",
    "RATE_LIMIT_WINDOW_MS": "900000",
    "RATE_LIMIT_MAX": "2000",
    "ALLOW_DEMO_CREDENTIALS": "false",
    "DIAGNOSTICS_ENABLED": "false",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318/v1/traces",
}


def faulty(service: str, environ: dict[str, str]) -> set[str]:
    """Return the variables that `load` complains about."""
    with pytest.raises(ConfigurationError) as caught:
        load(service, environ)
    return {fault.variable for fault in caught.value.faults}


def test_defaults_are_those_of_the_contract() -> None:
    """R0.13: a variable that is not set has its default."""
    settings = load("gateway", {})

    assert (settings.port, settings.upstream_timeout_ms) == (3000, 30000)
    assert (settings.rate_limit_window_ms, settings.rate_limit_max) == (900000, 2000)
    assert settings.redis_url == "redis://localhost:6379"
    assert settings.rabbitmq_url == "amqp://admin:admin@localhost:5672"
    assert settings.rabbitmq_exchange == "events"
    assert settings.auth_service_urls == ("http://localhost:3001",)
    assert settings.public_origin == "https://localhost"
    assert settings.cors_origins[:2] == ("https://localhost", "http://localhost:4200")
    assert len(settings.cors_origins) == 6
    assert settings.api_docs_enabled
    assert settings.otel_enabled
    assert not settings.diagnostics_enabled
    assert settings.service_name == "api-gateway"


def test_auth_defaults() -> None:
    """R0.13: lifetimes and hashing parameters of auth-service."""
    settings = load("auth", {"AUTH_DATABASE_URL": DATABASE})

    assert (settings.jwt_expires_in, settings.jwt_refresh_expires_in) == ("15m", "7d")
    assert (settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism) == (
        19456,
        2,
        1,
    )
    assert settings.database_url == DATABASE
    assert settings.port == 3001


def test_defaults_follow_other_variables() -> None:
    """R0.13: origin follows the TLS port, URLs follow ports, CORS follows the origin."""
    settings = load("gateway", {"EDGE_HTTPS_PORT": "8443", "AUTH_SERVICE_PORT": "4001"})

    assert settings.public_origin == "https://localhost:8443"
    assert settings.cors_origins[0] == "https://localhost:8443"
    assert settings.auth_service_urls == ("http://localhost:4001",)


def test_blank_counts_as_not_set() -> None:
    """A variable that is set to blanks has its default."""
    assert load("gateway", {"RATE_LIMIT_MAX": "  "}).rate_limit_max == 2000


def test_lists_are_read() -> None:
    """R0.13: several instances, proxies, exempt networks."""
    settings = load(
        "gateway",
        {
            "AUTH_SERVICE_URL": "http://a:1, http://b:2/",
            "TRUSTED_PROXIES": "127.0.0.250, ::1",
            "RATE_LIMIT_EXEMPT": "127.0.0.2,127.0.2.0/24",
        },
    )

    assert settings.auth_service_urls == ("http://a:1", "http://b:2")
    assert settings.trusted_proxies == frozenset({"127.0.0.250", "::1"})
    assert settings.rate_limit_exempt == (ip_network("127.0.0.2/32"), ip_network("127.0.2.0/24"))


def test_a_service_reads_only_its_own_database() -> None:
    """R0.12: another service's URL does not reach a service."""
    settings = load("payments", PRODUCTION)

    assert settings.database_url == PRODUCTION["PAYMENTS_DATABASE_URL"]
    assert "5432/auth_db" not in str(
        [getattr(settings, name) for name in settings.__struct_fields__]
    )


def test_documentation_is_off_in_production() -> None:
    """R0.13: API_DOCS_ENABLED defaults to false in production mode."""
    assert not load("gateway", PRODUCTION).api_docs_enabled
    assert load("gateway", {**PRODUCTION, "API_DOCS_ENABLED": "true"}).api_docs_enabled


@pytest.mark.parametrize("service", PROCESSES)
def test_a_good_production_environment_is_accepted(service: str) -> None:
    """The control of the refusals below."""
    assert load(service, PRODUCTION).production


@pytest.mark.parametrize(
    ("service", "secrets"),
    [
        ("auth", {"JWT_SECRET", "JWT_REFRESH_SECRET"}),
        ("payments", {"JWT_SECRET", "PSP_WEBHOOK_SECRET"}),
        ("admin", {"JWT_SECRET"}),
        ("profile", {"JWT_SECRET"}),
        ("gateway", {"JWT_SECRET"}),
    ],
)
def test_r0_14_missing_secrets_are_named_all_at_once(service: str, secrets: set[str]) -> None:
    """R0.14: in production mode every secret that the process reads must be there."""
    bare = {
        name: value
        for name, value in PRODUCTION.items()
        if not name.endswith(("SECRET", "TOKEN", "KEY"))
    }

    assert faulty(service, bare) == secrets | {"INTERNAL_SERVICE_TOKEN", "SECRETS_ENCRYPTION_KEY"}


@pytest.mark.parametrize(
    "weak",
    [
        *("change-in-production", "change-me", "your-secret", "default-secret", "test-secret"),
        *("development-only", "123456", "DEVELOPMENT-ONLY"),
    ],
)
def test_r0_14_weak_secrets_are_refused(weak: str) -> None:
    """R0.14: a secret with a well-known part is refused, however long it is."""
    assert faulty("auth", {**PRODUCTION, "JWT_SECRET": f"{GOOD}-{weak}-{GOOD}"}) == {"JWT_SECRET"}


@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_REFRESH_SECRET", "INTERNAL_SERVICE_TOKEN"])
def test_r0_14_short_secrets_are_refused(name: str) -> None:
    """R0.14: 31 characters are too few, 32 are enough."""
    assert faulty("auth", {**PRODUCTION, name: GOOD[:31]}) == {name}
    assert load("auth", {**PRODUCTION, name: GOOD[:32]}).production


def test_r0_14_a_key_list_stands_for_the_single_key() -> None:
    """R0.14: JWT_SECRETS or JWT_SECRET; the development key joins no list."""
    keys = f'[{{"kid":"a","secret":"{GOOD}"}}]'
    environ = {name: value for name, value in PRODUCTION.items() if name != "JWT_SECRET"}

    assert load("auth", {**environ, "JWT_SECRETS": keys}).jwt_secret is None
    assert load("gateway", {"JWT_SECRETS": keys}).jwt_secret is None


@pytest.mark.parametrize(
    "keys",
    ["[]", "{}", "nonsense", '[{"kid":"a"}]', '["a"]', '[{"kid":"a","secret":"short"}]'],
)
def test_r0_14_bad_key_lists_are_refused(keys: str) -> None:
    """R0.13, R0.14: every entry needs a kid and a secret that is strong enough."""
    assert faulty("auth", {**PRODUCTION, "JWT_SECRETS": keys}) == {"JWT_SECRETS"}


@pytest.mark.parametrize(
    ("name", "url", "with_demo"),
    [
        ("RABBITMQ_URL", "amqp://guest:guest@h:1", False),
        ("RABBITMQ_URL", "amqp://admin:admin@h:1", True),
        ("AUTH_DATABASE_URL", "postgresql://postgres:postgres@h:1/auth_db", True),
        ("AUTH_DATABASE_URL", "postgresql://guest:guest@h:1/auth_db", False),
        ("AUTH_MIGRATION_DATABASE_URL", "postgresql://postgres:postgres@h:1/auth_db", True),
    ],
)
def test_r0_14_demo_credentials_in_urls(name: str, url: str, with_demo: bool) -> None:
    """R0.14: guest never, admin and postgres only with ALLOW_DEMO_CREDENTIALS."""
    environ = {**PRODUCTION, name: url}
    allowed = {**environ, "ALLOW_DEMO_CREDENTIALS": "true"}

    assert faulty("auth", environ) == {name}
    if with_demo:
        assert load("auth", allowed).production
    else:
        assert faulty("auth", allowed) == {name}


def test_r0_14_the_default_broker_url_is_judged_too() -> None:
    """R0.14: the default carries admin:admin, which production mode refuses."""
    environ = {name: value for name, value in PRODUCTION.items() if name != "RABBITMQ_URL"}

    assert faulty("admin", environ) == {"RABBITMQ_URL"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_SERVICE_PORT", "0"),
        ("AUTH_SERVICE_PORT", "65536"),
        ("AUTH_SERVICE_PORT", "x"),
        ("AUTH_DATABASE_URL", "mysql://h/x"),
        ("REDIS_URL", "http://h"),
        ("RABBITMQ_URL", "nonsense"),
        ("EVENT_TRANSPORT", "pigeon"),
        ("JWT_EXPIRES_IN", "soon"),
        ("ARGON2_MEMORY_KIB", "19455"),
        ("ARGON2_TIME", "1"),
        ("TRUSTED_PROXIES", "localhost"),
        ("TRUSTED_PROXIES", "10.244.0.1/16"),
        ("DIAGNOSTICS_ENABLED", "maybe"),
        ("SECRETS_ENCRYPTION_KEY", "c2hvcnQ="),
        ("PUBLIC_ORIGIN", "https://localhost/path"),
        ("JWT_SECRET", "ENC[local:AAAA]"),
        ("JWT_SECRET", "ENC[vault:AAAA]"),
    ],
)
def test_values_of_the_wrong_form_are_named(name: str, value: str) -> None:
    """R0.13: each malformed value is a fault of its own variable, in either mode."""
    assert faulty("auth", {"AUTH_DATABASE_URL": DATABASE, name: value}) == {name}


def test_faults_do_not_repeat_secrets() -> None:
    """A complaint about a secret must not print it."""
    with pytest.raises(ConfigurationError) as caught:
        load("auth", {**PRODUCTION, "JWT_SECRET": "hunter2hunter2", "REDIS_URL": "x://u:hunter2@h"})

    assert "hunter2" not in str(caught.value)


def test_settings_do_not_print_secrets() -> None:
    """The representation of settings names the service, no secret."""
    assert GOOD not in repr(load("auth", PRODUCTION))


def test_r0_15_encrypted_values_are_decrypted() -> None:
    """R0.15: ENC[local:…] is AES-256-GCM over nonce, ciphertext, tag."""
    sealed = encrypt(GOOD + "-sealed", base64.b64decode(KEY))

    assert load("auth", {**PRODUCTION, "JWT_SECRET": sealed}).jwt_secret == GOOD + "-sealed"
    assert faulty("auth", {**PRODUCTION, "JWT_SECRET": sealed[:-9] + "AAAAAAA=]"}) == {"JWT_SECRET"}


def test_r0_15_a_known_ciphertext_is_decrypted() -> None:
    """R0.15: the layout is fixed, so another implementation's value is readable."""
    # nonce 00..0b, key 00..1f, text "attack at dawn, at the latest by six o'clock"
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, text = bytes(range(12)), b"attack at dawn, at the latest by six o'clock"
    body = AESGCM(bytes(range(32))).encrypt(nonce, text, None)
    value = f"ENC[local:{base64.b64encode(nonce + body).decode()}]"

    assert decrypt(value, bytes(range(32))) == text.decode()


def test_r0_15_an_encrypted_value_without_key_is_a_fault() -> None:
    """R0.15: the message says which variable is missing."""
    sealed = encrypt(GOOD, base64.b64decode(KEY))
    environ = {"AUTH_DATABASE_URL": DATABASE, "JWT_SECRET": sealed}

    with pytest.raises(ConfigurationError, match="SECRETS_ENCRYPTION_KEY"):
        load("auth", environ)


@pytest.mark.parametrize("service", PROCESSES)
def test_r0_14_a_process_exits_with_all_faults(service: str) -> None:
    """Exit code other than 0, and every faulty variable in the message; no value."""
    secrets = {"JWT_SECRET", "INTERNAL_SERVICE_TOKEN", "SECRETS_ENCRYPTION_KEY"}
    secrets |= {"auth": {"JWT_REFRESH_SECRET"}, "payments": {"PSP_WEBHOOK_SECRET"}}.get(
        service, set()
    )
    weak = "hunter2-change-me-hunter2-hunter2-hunter2"
    urls = {
        "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/",
        f"{service.upper()}_DATABASE_URL": "postgresql://postgres:postgres@127.0.0.1:1/x_db",
    }
    if service == "gateway":
        del urls["GATEWAY_DATABASE_URL"]  # it has none
    for values in (dict.fromkeys(secrets, weak), {}):
        done = subprocess.run(
            [sys.executable, "-m", f"system.{service}"],
            env={"NODE_ENV": "production", "PATH": "/usr/bin", **urls, **values},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 2, done.stderr
        assert [name for name in (*secrets, *urls) if name not in done.stderr] == []
        assert "hunter2" not in done.stdout + done.stderr


def test_r0_18_generated_files_name_every_variable_once() -> None:
    """R0.18: .env.example and .env.required are drawn from the table."""
    names = [variable.name for variable in VARIABLES]
    assigned = re.findall(r"^([A-Z][A-Z0-9_]*)=", example(), re.MULTILINE)

    assert assigned == names
    assert len(set(names)) == len(names)
    assert CONTRACTED - set(names) == set()
    shown = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", example(), re.MULTILINE))
    assert {name: shown[name] for name in DEFAULTS} == DEFAULTS
    for part in example().split("\n\n"):
        assert part.startswith("#"), "a line of meaning first"
    assert "development-only" not in example()
    assert set(re.findall(r"^([A-Z0-9_]+)=", required(), re.MULTILINE)) >= {
        "JWT_SECRET",
        "JWT_REFRESH_SECRET",
        "INTERNAL_SERVICE_TOKEN",
        "PSP_WEBHOOK_SECRET",
        "SECRETS_ENCRYPTION_KEY",
    }


def test_every_attribute_of_the_table_exists() -> None:
    """The table and `Settings` agree."""
    fields = set(Settings.__struct_fields__)

    assert {variable.attribute for variable in VARIABLES} <= fields
    assert {reader for variable in VARIABLES for reader in variable.readers} <= set(READERS)


@pytest.mark.parametrize(("name", "text"), [(".env.example", example), (".env.required", required)])
def test_r0_18_generated_files_are_up_to_date(name: str, text: Callable[[], str]) -> None:
    """R0.18: what lies in the project is what the table says."""
    project = Path(__file__).resolve().parents[3]

    assert (project / name).read_text(encoding="utf-8") == text()
