"""What can be wrong with an environment, told all at once (R0.14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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
