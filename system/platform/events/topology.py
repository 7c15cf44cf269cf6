"""Names every exchange, queue and binding of the event hub, as data (R3.1-R3.8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SERVICES: Final = ("auth", "payments", "admin", "profile")
DEFAULT_EXCHANGE: Final = "events"
DEAD_LETTER_EXCHANGE: Final = "events.dlx"
DEAD_LETTER_KEY: Final = "dead-letter"
DEAD_LETTER_QUEUE: Final = "events.dlq"

# R3.46: how long a message waits after its first, second and third failed attempt.
RETRY_DELAYS_MS: Final = (1_000, 2_000, 4_000)
ATTEMPTS: Final = len(RETRY_DELAYS_MS) + 1

# R3.7
_ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": ("auth.#",),
    "payments": ("payments.#", "auth.user.#"),
    "admin": ("#",),
    "profile": ("auth.user.#",),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["topic", "direct"]


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable classic queue; `arguments` are all it has (R3.8)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """What `exchange` receives with `routing_key` goes to `queue`."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """All durable objects of the hub, in an order in which they can be declared."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def objects(self) -> Iterator[Exchange | Queue | Binding]:
        """All of them, in that order."""
        yield from self.exchanges
        yield from self.queues
        yield from self.bindings


def service_queue(service: str) -> str:
    """The queue a service consumes (R3.3)."""
    return f"{service}.events.queue"


def retry_queue(queue: str, level: int) -> str:
    """Where messages of a service's `queue` wait after `level` failed attempts (R3.5)."""
    return f"{queue.removesuffix('.queue')}.retry.{level}"


def gateway_queue(instance: str) -> str:
    """The queue of one gateway process (R3.6)."""
    return f"gateway.ws.{instance}"


def topology(exchange: str = DEFAULT_EXCHANGE) -> Topology:
    """The whole topology around the topic exchange named `exchange` (RABBITMQ_EXCHANGE)."""
    queues = [
        Queue(
            service_queue(service),
            {
                "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
                "x-dead-letter-routing-key": DEAD_LETTER_KEY,
                "x-single-active-consumer": True,
            },
        )
        for service in SERVICES
    ]
    queues.append(Queue(DEAD_LETTER_QUEUE))
    queues.extend(
        Queue(
            retry_queue(service_queue(service), level),
            {
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": service_queue(service),
            },
        )
        for service in SERVICES
        for level in range(1, ATTEMPTS)
    )
    bindings = [
        Binding(exchange, service_queue(service), key)
        for service, keys in _ROUTES.items()
        for key in keys
    ]
    bindings.append(Binding(DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE, DEAD_LETTER_KEY))
    return Topology(
        exchanges=(Exchange(exchange, "topic"), Exchange(DEAD_LETTER_EXCHANGE, "direct")),
        queues=tuple(queues),
        bindings=tuple(bindings),
    )
