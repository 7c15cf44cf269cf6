"""A part taken away for a while, in each of the ways in which it can be away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from harness.probe import CouldNotObserve
from harness.trial import Trial

# Way → the target's commands that begin and end it: a part that refuses, and one that is silent.
ENDED = {"stop": ("stop", "start"), "pause": ("pause", "resume")}
# Where the target file offers them: the part is well, and what goes to and fro is lost or late.
ON_THE_WAY = ("cut", "slow")


def ways(trial: Trial, part: str, users: Sequence[str]) -> tuple[str, ...]:
    """The ways to try: stop and pause always, those of the network where all users have them.

    Args:
        part: what is to be away.
        users: the parts that depend on it.
    """
    offered = (
        way for way in ON_THE_WAY if all(trial.target.fault_of(user, part, way) for user in users)
    )
    return (*ENDED, *offered)


@contextmanager
def away(
    trial: Trial, part: str, way: str, users: Sequence[str], *, milliseconds: int
) -> Iterator[None]:
    """The part is away for its users inside the block, and there again whatever happened.

    Args:
        way: stop, pause, cut or slow.
        milliseconds: how much later everything arrives each way, if it is slow.

    Raises:
        CouldNotObserve: the target file has no such command, or it failed.
    """
    with ExitStack() as taken:
        if way in ENDED:
            takes, gives = ENDED[way]
            trial.control(part, takes)
            taken.callback(trial.control, part, gives)
        elif way == "cut":
            for user in users:
                taken.enter_context(trial.fault(user, part, "cut"))
        elif way == "slow":
            for user in users:
                taken.enter_context(trial.fault(user, part, "slow", milliseconds))
        else:
            raise CouldNotObserve(f"{way!r} is no way of an outage")
        yield
