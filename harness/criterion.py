"""A criterion: one promise, how it is judged, and what judging it takes."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec


class Effect(StrEnum):
    """What judging a criterion does to the target, from harmless to rough."""

    READS = "reads"
    WRITES = "writes"
    LOADS = "loads"
    DISRUPTS = "disrupts"


class Access(StrEnum):
    """What a criterion needs beyond the public origin; granted by the target file."""

    AMQP = "amqp"
    DB = "db"
    REDIS = "redis"
    SERVICES = "services"  # the services' own ports
    METRICS = "metrics"
    LOGS = "logs"
    CONTROL = "control"
    KEY = "key"
    DIAG = "diag"
    EXEMPT = "exempt"
    TWO = "two"
    DLQ = "dlq"


class CriterionError(ValueError):
    """A criterion is declared wrongly; the text says what to mend."""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """What must be true, and how it is decided.

    Attributes:
        id: kebab-case noun, the file's name with dashes, unique.
        area: the folder below suites/.
        statement: one sentence with MUST.
        gate: the rule that decides, in words with its numbers.
        rules: rule numbers of the contract it stands on.
        needs: access it takes beyond HTTP; missing access makes it inconclusive.
        parts: parts of the target without which it is not applicable.
        effects: what it does to the target.
        time_limit: seconds after which it is stopped as inconclusive.
    """

    id: str
    area: str
    statement: str
    gate: str
    rules: tuple[str, ...] = ()
    needs: tuple[Access, ...] = ()
    parts: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = (Effect.READS,)
    time_limit: float = 120.0

    def __post_init__(self) -> None:
        faults = []
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.id):
            faults.append(f"id {self.id!r} is not kebab-case")
        if "MUST" not in self.statement:
            faults.append("statement has no MUST")
        if not self.gate:
            faults.append("gate is empty")
        if not self.effects:
            faults.append("effects are empty (at least reads)")
        if self.time_limit <= 0:
            faults.append(f"time_limit is {self.time_limit} s, expected more than 0")
        if faults:
            raise CriterionError(f"criterion {self.id!r}: " + "; ".join(faults))

    @property
    def roughest_effect(self) -> Effect:
        """The effect that decides when in a run the criterion comes."""
        order = list(Effect)
        return max(self.effects, key=order.index)
