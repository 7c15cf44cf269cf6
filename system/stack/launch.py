"""How a part is started and ended, in a form that any later command can repeat."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Readiness:
    """How to see that a part answers.

    Attributes:
        kind: postgres, redis, rabbitmq, http (a service or the gateway), edge, or port.
        port: where it listens on 127.0.0.1.
        second: a further port that must answer (RabbitMQ's management); 0 for none.
    """

    kind: str
    port: int
    second: int = 0


@dataclass(frozen=True)
class Launch:
    """How a part is started and ended.

    Attributes:
        part: its name.
        command: absolute program and arguments.
        environment: the whole environment; nothing is inherited.
        folder: the working directory, inside the state folder.
        account: user to run as when root starts it; None for the caller.
        readiness: how to see that it answers.
        stop_signal: asks it to end in good order.
        quick_signal: ends it when its data is thrown away anyway.
        grace: seconds it may take to end in good order.
    """

    part: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    readiness: Readiness
    account: str | None = None
    stop_signal: str = "SIGTERM"
    quick_signal: str = "SIGTERM"
    grace: float = 12.0  # R0.11 gives a process 10 s

    def to_json(self) -> str:
        """This launch as text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Launch:
        """The launch that `to_json` wrote.

        Raises:
            ValueError: it is not one.
        """
        try:
            values = json.loads(text)
            values["command"] = tuple(values["command"])
            values["readiness"] = Readiness(**values["readiness"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the record of a launch: {error}") from error

    def signal(self, *, quick: bool) -> signal.Signals:
        """The signal that ends it."""
        return signal.Signals[self.quick_signal if quick else self.stop_signal]
