"""The members of a part, each under a name of its own: what is promised holds at each of them."""

from __future__ import annotations

from harness.trial import Trial


def named(trial: Trial, part: str) -> dict[str, str]:
    """Name and base URL of each member; the first one has the part's name.

    Raises:
        CouldNotObserve: the target file does not name the part.
    """
    return {nth(part, number): url for number, url in enumerate(trial.members(part), 1)}


def nth(name: str, number: int) -> str:
    """What the n-th member is called, or its door; the first as if it were alone."""
    return name if number == 1 else f"{name}, member {number}"
