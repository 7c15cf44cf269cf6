"""Shows progress: bars on a terminal, one plain line per piece of work elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Final, TextIO

from system.migration.ports import Progress, Task

_REDRAW_S: Final = 0.1
_BAR: Final = 24
_TITLE: Final = 34


def shown_on(stream: TextIO | None = None) -> Progress:
    """The right way to show progress on a stream (standard error)."""
    stream = stream or sys.stderr
    return Bars(stream) if stream.isatty() else Lines(stream)


class _Counter:
    def __init__(self) -> None:
        self.done = 0
        self.began = time.monotonic()

    def advance(self, done: int) -> None:
        self.done += done

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Lines:
    """A line when a piece of work is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextlib.contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Print the line when the block ends well."""
        counter = _Counter()
        yield counter
        self.say(f"{title}: {counter.done:,} in {counter.seconds:.1f} s")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)


class _Bar(_Counter):
    def __init__(self, stream: TextIO, title: str, total: int | None) -> None:
        super().__init__()
        self._stream, self._title, self._total = stream, title, total
        self._next = 0.0

    def advance(self, done: int) -> None:
        super().advance(done)
        if time.monotonic() >= self._next:
            self.draw()

    def draw(self) -> None:
        self._next = time.monotonic() + _REDRAW_S
        rate = self.done / max(self.seconds, 0.001)
        line = f"{self._title:<{_TITLE}} "
        if self._total:
            share = min(1.0, self.done / self._total)
            full = int(share * _BAR)
            line += f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%} "
        line += f"{self.done:>10,}  {rate:,.0f}/s"
        self._stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()


class Bars:
    """A bar that grows in its line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextlib.contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Draw the bar while the block runs, and leave its last state."""
        bar = _Bar(self._stream, title, total)
        bar.draw()
        try:
            yield bar
            bar.draw()
        finally:
            self._stream.write("\n")
            self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)
