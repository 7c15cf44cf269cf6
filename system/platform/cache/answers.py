"""What is read through the cache: what a loader gives, what a caller gets, where it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """Where an answer came from; the values of `X-Cache` (R6.1)."""

    HIT = "HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader read from the database.

    Attributes:
        body: bytes to serve as they are.
        tags: tags only the value tells, beside those of the entry.
        note: a few bytes kept beside the body, for checks that should not decode it.
    """

    body: bytes
    tags: tuple[str, ...] = ()
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a read gives.

    Attributes:
        body: bytes as loaded.
        note: as loaded.
        outcome: for the `X-Cache` header.
    """

    body: bytes
    note: bytes
    outcome: Outcome


def answered(loaded: Loaded, outcome: Outcome) -> Answer:
    """Give what was loaded as an answer."""
    return Answer(loaded.body, loaded.note, outcome)


Loader = Callable[[], Awaitable[Loaded]]
Admit = Callable[[bytes], None]
