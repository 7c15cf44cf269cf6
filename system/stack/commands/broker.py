"""The event hub: broker topology, queues, ui."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from system.stack.commands.words import DONE, FAILED, Commands, command, group, running, table
from system.stack.errors import StackError

if TYPE_CHECKING:
    from system.stack.credentials import Credentials

_LONG = """\
  python -m system broker topology          what must be there, and whether it is
  python -m system broker queues            messages and consumers of each queue
  python -m system broker ui                address and account of the management pages

Dead letters are the business of `bin/dlq`.
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "broker", "look at the event hub", _LONG)
    command(
        actions,
        "topology",
        _topology,
        "exchanges, queues and bindings, and whether they are there",
        "Compares the broker with section 3.1 of the contract. Exit code 1 if anything is missing.",
    )
    command(
        actions,
        "queues",
        _queues,
        "messages and consumers of each queue",
        "READY wait for a consumer, UNACKED are being worked on. A service's queue should have\n"
        "few of both; events.dlq should be empty; a retry queue fills while handlers fail.\n"
        "RabbitMQ counts every few seconds.",
    )
    command(
        actions,
        "ui",
        _ui,
        "address and account of the management pages",
        "For a browser on this machine.",
    )


def _topology(options: argparse.Namespace) -> int:
    from system.platform.events.topology import Binding, Exchange, topology
    from system.stack import environment

    _state, ports, credentials = running(options)
    exchanges = {entry["name"] for entry in _ask(ports, credentials, "exchanges/%2F")}
    queues = {entry["name"] for entry in _ask(ports, credentials, "queues/%2F")}
    bindings = {
        (entry["source"], entry["destination"], entry["routing_key"])
        for entry in _ask(ports, credentials, "bindings/%2F")
    }
    rows: list[tuple[str, ...]] = [("KIND", "NAME", "STATE")]
    missing = 0
    for wanted in topology(environment.EXCHANGE).objects():
        if isinstance(wanted, Binding):
            kind, name = "binding", f"{wanted.exchange} --{wanted.routing_key}--> {wanted.queue}"
            there = (wanted.exchange, wanted.queue, wanted.routing_key) in bindings
        elif isinstance(wanted, Exchange):
            kind, name, there = (
                "exchange",
                f"{wanted.name} ({wanted.type})",
                (wanted.name in exchanges),
            )
        else:
            kind, name, there = "queue", wanted.name, wanted.name in queues
        missing += not there
        rows.append((kind, name, "there" if there else "MISSING"))
    table(rows)
    return FAILED if missing else DONE


def _queues(options: argparse.Namespace) -> int:
    _state, ports, credentials = running(options)
    rows: list[tuple[str, ...]] = [("QUEUE", "READY", "UNACKED", "CONSUMERS")]
    for queue in sorted(_ask(ports, credentials, "queues/%2F"), key=lambda entry: entry["name"]):
        numbers = (
            queue.get(name, "?")  # a queue that was just declared has no figures yet
            for name in ("messages_ready", "messages_unacknowledged", "consumers")
        )
        rows.append((queue["name"], *map(str, numbers)))
    table(rows)
    return DONE


def _ui(options: argparse.Namespace) -> int:
    from system.stack.credentials import OPERATOR

    _state, ports, credentials = running(options)
    print(f"http://127.0.0.1:{ports['rabbitmq-management']}/")
    print(f"user {OPERATOR}")
    print(f"password {credentials.broker[OPERATOR]}")
    return DONE


def _ask(ports: Mapping[str, int], credentials: Credentials, path: str) -> Any:
    import base64
    import json
    import urllib.error
    import urllib.request

    from system.stack.credentials import OPERATOR

    account = base64.b64encode(f"{OPERATOR}:{credentials.broker[OPERATOR]}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{ports['rabbitmq-management']}/api/{path}",
        headers={"Authorization": f"Basic {account}"},
    )
    try:
        # No proxy of the environment stands between us and loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise StackError(
            f"the broker's management does not answer: {error}; "
            "`python -m system status` shows whether rabbitmq is up"
        ) from error
