"""The environment of each of our own processes (R0.13, R0.16): only what it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from system.stack.credentials import PLATFORM, Credentials, SigningKey
from system.stack.parts import SERVICES, member_names, part_of, port_name, replicas_of

EXEMPT = ("127.0.0.2", "127.0.2.0/24")
LIMITED = "127.0.3.0/24"
EDGE_SOURCE = "127.0.0.250"  # the edge connects to the gateway from here
GATEWAY_SOURCE = "127.0.0.251"  # the gateway connects to the services from here
UPSTREAM_TIMEOUT_MS = 3000
EXCHANGE = "events"


def public_origin(ports: Mapping[str, int]) -> str:
    """The origin at the edge, with the port unless it is the scheme's own."""
    return _origin("https", ports["edge-https"], 443)


def plain_origin(ports: Mapping[str, int]) -> str:
    """The edge's plain HTTP origin."""
    return _origin("http", ports["edge-http"], 80)


def service_url(member: str, ports: Mapping[str, int]) -> str:
    """Where one of our own processes listens; of a part with several, the first."""
    return f"http://127.0.0.1:{ports[port_name(member)]}"


def member_urls(part: str, ports: Mapping[str, int]) -> list[str]:
    """Where each member of one of our own parts listens."""
    return [service_url(member, ports) for member in member_names(part, replicas_of(part, ports))]


def redis_url(ports: Mapping[str, int], credentials: Credentials) -> str:
    """The cache's URL with its password."""
    return f"redis://:{credentials.redis}@127.0.0.1:{ports['redis']}/0"


def rabbitmq_url(ports: Mapping[str, int], credentials: Credentials, user: str) -> str:
    """The broker's URL for one of its users."""
    return f"amqp://{user}:{credentials.broker[user]}@127.0.0.1:{ports['rabbitmq']}/"


def database_url(service: str, role: str, password: str, ports: Mapping[str, int]) -> str:
    """A database's URL for one of its roles."""
    return f"postgresql://{role}:{password}@127.0.0.1:{ports[f'postgres-{service}']}/{service}_db"


def owner_url(service: str, ports: Mapping[str, int], credentials: Credentials) -> str:
    """The database's URL for schema migrations."""
    return database_url(service, f"{service}_owner", credentials.owners[service], ports)


def runtime_url(service: str, ports: Mapping[str, int], credentials: Credentials) -> str:
    """The database's URL for the running service."""
    return database_url(service, f"{service}_service", credentials.runtimes[service], ports)


def superuser_url(service: str, ports: Mapping[str, int], credentials: Credentials) -> str:
    """The database's URL for the cluster's superuser."""
    return database_url(service, "postgres", credentials.superusers[service], ports)


def legacy_url(ports: Mapping[str, int], credentials: Credentials) -> str:
    """The legacy database's URL; the database is there when somebody started it."""
    password = credentials.superusers["legacy"]
    return f"postgresql://postgres:{password}@127.0.0.1:{ports['postgres-legacy']}/mfe_poc2"


def migration_environment(ports: Mapping[str, int], credentials: Credentials) -> dict[str, str]:
    """R0.13's variables for `bin/migrate`."""
    return {
        "NODE_ENV": "production",
        "DATABASE_URL": legacy_url(ports, credentials),
        **{
            f"{service.upper()}_MIGRATION_DATABASE_URL": owner_url(service, ports, credentials)
            for service in SERVICES
        },
    }


def process_environment(
    member: str,
    ports: Mapping[str, int],
    credentials: Credentials,
    *,
    upstream_timeout_ms: int = UPSTREAM_TIMEOUT_MS,
) -> dict[str, str]:
    """R0.13's variables for a member of a service or of the gateway."""
    part = part_of(member)
    shared = {
        "NODE_ENV": "production",
        "ALLOW_DEMO_CREDENTIALS": "true",
        "DIAGNOSTICS_ENABLED": "true",
        "API_DOCS_ENABLED": "true",
        "OTEL_ENABLED": "false",  # no collector belongs to the stack yet
        "BIND_ADDRESS": "127.0.0.1",
        "PUBLIC_ORIGIN": public_origin(ports),
        "REDIS_URL": redis_url(ports, credentials),
        "RABBITMQ_URL": rabbitmq_url(ports, credentials, PLATFORM),
        "RABBITMQ_EXCHANGE": EXCHANGE,
        "JWT_SECRETS": _key_ring(credentials.access),
        "INTERNAL_SERVICE_TOKEN": credentials.internal_token,
        "SECRETS_ENCRYPTION_KEY": credentials.encryption_key,
        "RATE_LIMIT_EXEMPT": ",".join(EXEMPT),
        "TRUSTED_PROXIES": EDGE_SOURCE if part == "gateway" else GATEWAY_SOURCE,
    }
    for service in SERVICES:
        shared[f"{service.upper()}_SERVICE_URL"] = ",".join(member_urls(service, ports))
        shared[f"{service.upper()}_SERVICE_PORT"] = str(ports[service])
    shared["API_GATEWAY_URL"] = ",".join(member_urls("gateway", ports))
    if part == "gateway":
        return shared | {
            "API_GATEWAY_PORT": str(ports[port_name(member)]),
            "EDGE_HTTP_PORT": str(ports["edge-http"]),
            "EDGE_HTTPS_PORT": str(ports["edge-https"]),
            "UPSTREAM_TIMEOUT_MS": str(upstream_timeout_ms),
            "UPSTREAM_SOURCE_ADDRESS": GATEWAY_SOURCE,
        }
    own = {
        f"{part.upper()}_SERVICE_PORT": str(ports[port_name(member)]),
        f"{part.upper()}_DATABASE_URL": runtime_url(part, ports, credentials),
    }
    if part == "auth":
        own["JWT_REFRESH_SECRETS"] = _key_ring(credentials.refresh)
    if part == "payments":
        own["PSP_WEBHOOK_SECRET"] = credentials.psp_webhook
    return shared | own


def interpreter_environment(project: Path) -> dict[str, str]:
    """What a Python process of the stack needs besides its configuration."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("COVERAGE_")  # tests measure the processes they start
    }
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(project),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        **inherited,
    }


def _key_ring(key: SigningKey) -> str:
    return json.dumps(
        [{"kid": key.kid, "secret": key.secret, "createdAt": key.created_at, "isActive": True}]
    )


def _origin(scheme: str, port: int, usual: int) -> str:
    return f"{scheme}://localhost" if port == usual else f"{scheme}://localhost:{port}"
