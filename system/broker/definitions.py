"""Renders RabbitMQ's definitions document: users, vhost, permissions and the topology (R3.8)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from system.platform.events.topology import DEFAULT_EXCHANGE, topology


@dataclass(frozen=True, slots=True)
class User:
    """An account of the broker.

    Attributes:
        administrator: may use the management plugin; else only AMQP.
    """

    name: str
    password: str
    administrator: bool = False


def render(
    users: Iterable[User], *, vhost: str = "/", exchange: str = DEFAULT_EXCHANGE
) -> dict[str, Any]:
    """The definitions of a broker with exactly these users, and no `guest`.

    Args:
        users: all accounts.
        exchange: name of the topic exchange (RABBITMQ_EXCHANGE).

    Returns:
        a document for RabbitMQ 3.10 `load_definitions`.
    """
    accounts = list(users)
    plan = topology(exchange)
    return {
        "users": [
            {
                "name": user.name,
                "password_hash": password_hash(user.password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["administrator"] if user.administrator else [],
                "limits": {},
            }
            for user in accounts
        ],
        "vhosts": [{"name": vhost}],
        "permissions": [
            {
                "user": user.name,
                "vhost": vhost,
                "configure": ".*",
                "write": ".*",
                "read": ".*",
            }
            for user in accounts
        ],
        "exchanges": [
            {
                "name": entry.name,
                "vhost": vhost,
                "type": entry.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for entry in plan.exchanges
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in plan.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": {},
            }
            for binding in plan.bindings
        ],
    }


def password_hash(password: str, salt: bytes | None = None) -> str:
    """A password as RabbitMQ stores it: base64 of salt and SHA-256 of salt and password.

    Args:
        salt: 4 bytes; random when None.
    """
    salt = secrets.token_bytes(4) if salt is None else salt
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()
