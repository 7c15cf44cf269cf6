"""Progress: bars for people at a terminal, plain lines for everybody else."""

from __future__ import annotations

import contextlib
import io

import pytest

from system.migration.adapters.progress import Bars, Lines, shown_on


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_a_terminal_gets_a_bar() -> None:
    """It is drawn over itself, from empty to full, and then leaves its line."""
    stream = Terminal()
    with shown_on(stream).task("export Users", 4) as task:
        for _ in range(4):
            task.advance(1)
    said = stream.getvalue()
    assert isinstance(shown_on(stream), Bars)
    assert said.startswith("\r")
    assert "[........................]   0%" in said
    assert "[########################] 100%" in said
    assert said.endswith("\n")


def test_a_total_that_is_not_known_gets_no_bar() -> None:
    """Only a number that grows."""
    stream = Terminal()
    with shown_on(stream).task("back up auth_db (bytes)") as task:
        task.advance(12_345)
    assert "[" not in stream.getvalue().replace("\x1b[K", "")
    assert "12,345" in stream.getvalue()


def test_others_get_a_line_when_it_is_done() -> None:
    """No control characters in a log."""
    stream = io.StringIO()
    with shown_on(stream).task("export Users", 2) as task:
        task.advance(2)
        assert stream.getvalue() == ""
    assert isinstance(shown_on(stream), Lines)
    assert stream.getvalue().startswith("export Users: 2 in ")
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_work_that_fails_is_not_called_done(stream: io.StringIO) -> None:
    """Neither a line that counts it nor a full bar."""
    with contextlib.suppress(RuntimeError), shown_on(stream).task("export Users", 2) as task:
        task.advance(1)
        raise RuntimeError
    assert "export Users: " not in stream.getvalue()
    assert "100%" not in stream.getvalue()
