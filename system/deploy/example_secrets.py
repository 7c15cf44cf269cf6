"""Makes the Secrets of the overlay `local`, new ones each time, and says which ones there must be.

They go to standard output and from there to the cluster; no file is written, so that none can be
committed:

    python -m system.deploy secrets | kubectl apply -f -
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from system.broker import definitions
from system.edge import certificates
from system.platform.config.settings import NAMES, PROCESSES, SERVICES
from system.stack.credentials import OPERATOR, PLATFORM, Credentials, generate
from system.stack.ports import STANDARD

NAMESPACE: Final = "seatrial"
_REDIS: Final = """\
bind * -::*
port 6379
requirepass {password}
dir /data
appendonly yes
save ""
maxclients 10000
"""


def secrets() -> list[dict[str, Any]]:
    """Secrets for the data inside the cluster (system/deploy/data), with passwords of chance."""
    made = generate()
    values = {
        **{NAMES[process]: _process(process, made) for process in PROCESSES},
        **{f"{service}-migration": _migration(service, made) for service in SERVICES},
        **{f"{service}-postgres": _cluster(service, made) for service in SERVICES},
        "rabbitmq-definitions": {"definitions.json": _definitions(made)},
        "redis": {"redis.conf": _REDIS.format(password=made.redis)},
        "edge-tls": _certificate(),
    }
    return [_document(name, entries) for name, entries in values.items()]


def _process(process: str, made: Credentials) -> dict[str, str]:
    """What one process is told and nobody else has to know: only what it reads."""
    values = {
        "JWT_SECRET": made.access.secret,
        "INTERNAL_SERVICE_TOKEN": made.internal_token,
        "SECRETS_ENCRYPTION_KEY": made.encryption_key,
        "REDIS_URL": f"redis://:{made.redis}@redis:{STANDARD['redis']}/0",
        "RABBITMQ_URL": f"amqp://{PLATFORM}:{made.broker[PLATFORM]}@rabbitmq:{STANDARD['rabbitmq']}/",
    }
    if process in SERVICES:
        values[f"{process.upper()}_DATABASE_URL"] = _database(
            process, "service", made.runtimes[process]
        )
    if process == "auth":
        values["JWT_REFRESH_SECRET"] = made.refresh.secret
    if process == "payments":
        values["PSP_WEBHOOK_SECRET"] = made.psp_webhook
    return values


def _migration(service: str, made: Credentials) -> dict[str, str]:
    url = _database(service, "owner", made.owners[service])
    return {f"{service.upper()}_MIGRATION_DATABASE_URL": url}


def _database(service: str, role: str, password: str) -> str:
    port = STANDARD[f"postgres-{service}"]
    return f"postgresql://{service}_{role}:{password}@{service}-postgres:{port}/{service}_db"


def _cluster(service: str, made: Credentials) -> dict[str, str]:
    return {
        "POSTGRES_PASSWORD": made.superusers[service],
        "OWNER_PASSWORD": made.owners[service],
        "SERVICE_PASSWORD": made.runtimes[service],
    }


def _definitions(made: Credentials) -> str:
    users = [
        definitions.User(name, password, administrator=name == OPERATOR)
        for name, password in made.broker.items()
    ]
    return json.dumps(definitions.render(users))


def _certificate() -> dict[str, str]:
    """A development certificate (R5.3) and the CA that clients are told to trust."""
    with tempfile.TemporaryDirectory() as folder:
        made = certificates.ensure(
            Path(folder), (*certificates.NAMES, "edge", f"edge.{NAMESPACE}.svc")
        )
        return {
            "tls.crt": made.certificate.read_text(encoding="ascii"),
            "tls.key": made.key.read_text(encoding="ascii"),
            "ca.crt": made.ca.read_text(encoding="ascii"),
        }


def _document(name: str, entries: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "kubernetes.io/tls" if "tls.crt" in entries else "Opaque",
        "stringData": dict(entries),
    }
