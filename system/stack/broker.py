"""RabbitMQ: the node that system/broker describes, with this stack's ports and users."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from system.broker import server
from system.stack import accounts
from system.stack.credentials import Credentials
from system.stack.launch import Launch, Readiness


def exists() -> bool:
    return True


def prepare(
    folder: Path,
    ports: Mapping[str, int],
    credentials: Credentials,
    transform: Callable[[str], str] | None = None,
) -> Launch:
    """Write the node's files and say how it is started.

    Args:
        folder: the part's folder; data of an earlier start in it is kept.
        transform: changes the text of definitions.json; for defects.
    """
    account = accounts.account_for("rabbitmq")
    text = json.dumps(_definitions(credentials))
    node = server.prepare(
        folder,
        server.Ports(
            amqp=ports["rabbitmq"],
            management=ports["rabbitmq-management"],
            metrics=ports["rabbitmq-metrics"],
            distribution=ports["rabbitmq-distribution"],
            epmd=ports["epmd"],
        ),
        json.loads(transform(text) if transform else text),
    )
    accounts.hand_over(account, [folder])
    return Launch(
        part="rabbitmq",
        command=node.command,
        environment=dict(node.environment),
        folder=folder.name,
        readiness=Readiness("rabbitmq", ports["rabbitmq"], ports["rabbitmq-management"]),
        account=account,
        quick_signal="SIGKILL",
        grace=30.0,
    )


def _definitions(credentials: Credentials) -> dict[str, Any]:
    return {
        "users": [
            {
                "name": user,
                "password": password,
                "tags": "administrator" if user == "operator" else "",
            }
            for user, password in credentials.broker.items()
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
            for user in credentials.broker
        ],
    }
