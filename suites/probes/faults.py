"""Several ways between parts and their dependencies, disturbed together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

from harness.trial import Trial

Kind = Literal["cut", "slow", "lose"]
Way = tuple[str, str]  # part and dependency


def offered(trial: Trial, ways: Sequence[Way], kind: Kind) -> bool:
    """True when the target lets every one of these ways be disturbed so."""
    return all(trial.target.fault_of(part, dependency, kind) for part, dependency in ways)


@contextlib.contextmanager
def on_all(trial: Trial, ways: Sequence[Way], kind: Kind, amount: int = 0) -> Iterator[None]:
    """Disturb all ways, one after the other, for the block; all are healed when it is left.

    Raises:
        CouldNotObserve: one could not be disturbed, or not be healed.
    """
    with contextlib.ExitStack() as healing:
        for part, dependency in ways:
            healing.enter_context(trial.fault(part, dependency, kind, amount))
        yield
