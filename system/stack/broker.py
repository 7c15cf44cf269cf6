"""RabbitMQ: the node that system/broker describes, with this stack's ports and users."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from system.broker import definitions, server
from system.stack import accounts
from system.stack.credentials import OPERATOR, Credentials
from system.stack.environment import EXCHANGE
from system.stack.launch import Launch, Readiness


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
    users = [
        definitions.User(name, password, administrator=name == OPERATOR)
        for name, password in credentials.broker.items()
    ]
    text = json.dumps(definitions.render(users, exchange=EXCHANGE))
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
