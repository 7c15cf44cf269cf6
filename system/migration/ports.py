"""What the steps of a migration need from outside: somebody who hears how far they got."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Task(Protocol):
    """One piece of work whose progress is shown."""

    def advance(self, done: int) -> None:
        """So many more rows, files or bytes are done."""
        ...


class Progress(Protocol):
    """Shows how far the work is."""

    def task(self, title: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Begin a piece of work; it ends with the block.

        Args:
            title: what is done.
            total: how much there is to do; None when that is not known.
        """
        ...

    def say(self, text: str) -> None:
        """Show a line."""
        ...


class _Silent:
    def advance(self, done: int) -> None:
        """Nothing is shown."""


class NullProgress:
    """Shows nothing."""

    def task(self, title: str, total: int | None = None) -> AbstractContextManager[Task]:
        """A piece of work that nobody watches."""
        from contextlib import nullcontext

        return nullcontext(_Silent())

    def say(self, text: str) -> None:
        """Nothing is shown."""
