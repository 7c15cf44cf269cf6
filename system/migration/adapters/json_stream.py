"""Reads a JSON document piece by piece, so that its size does not matter to the memory.

The caller walks down: `members()` of an object, `elements()` of an array, `value()` of anything.
What is not asked for is passed over. Any JSON text will do, whatever its blanks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TextIO

_CHUNK: Final = 1 << 16
# One row or scalar; more is no row of ours but a document that never ends.
_LONGEST: Final = 64 * 1024 * 1024
_FRACTION: Final = 3
_BLANKS: Final = " \t\n\r"


class NotJson(ValueError):
    """The text is not JSON, or ends too early; says near which character."""


class JsonStream:
    """A cursor over a JSON text."""

    def __init__(self, source: TextIO) -> None:
        self._source = source
        self._buffer = ""
        self._at = 0
        self._before = 0  # characters that were dropped from the buffer
        self._ended = False
        self._decode = json.JSONDecoder(parse_constant=_no_number).raw_decode

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; after each, take its value or leave it.

        Raises:
            NotJson: no object comes next, or it is broken.
        """
        yield from self._inside("{", "}", keys=True)

    def elements(self) -> Iterator[Any]:
        """The values of the array that comes next, one after the other.

        Raises:
            NotJson: no array comes next, or it is broken.
        """
        for _ in self._inside("[", "]", keys=False):
            yield self.value()

    def value(self) -> Any:
        """The value that comes next, whole.

        Raises:
            NotJson: none comes, or it is broken.
        """
        self._peek()
        want = _CHUNK
        while True:
            try:
                found, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended or len(self._buffer) - self._at > _LONGEST:
                    raise NotJson(
                        f"{error.msg} near character {self._before + error.pos}"
                    ) from error
            except RecursionError as error:
                raise NotJson("nested too deeply") from error
            else:
                # A number at the end of what was read may go on: by a digit, `.5` or `e+5`.
                if end + _FRACTION <= len(self._buffer) or self._ended:
                    self._at = end
                    return found
            self._read(want)
            want *= 2

    def end(self) -> None:
        """Nothing but blanks may follow.

        Raises:
            NotJson: something does.
        """
        if sign := self._peek():
            raise self._unexpected(sign, "the end")

    def _inside(self, opening: str, closing: str, *, keys: bool) -> Iterator[str]:
        self._take(opening)
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            key = ""
            if keys:
                key = self.value()
                if not isinstance(key, str):
                    raise NotJson(f"seen the key {key!r}, expected a text")
                self._take(":")
            self._peek()
            place = self._place()
            yield key
            if self._place() == place:
                self.value()  # the caller did not want it
            sign = self._peek()
            if sign not in (",", closing):
                raise self._unexpected(sign, f"',' or '{closing}'")
            self._at += 1
            if sign == closing:
                return

    def _place(self) -> int:
        return self._before + self._at

    def _take(self, sign: str) -> None:
        if (seen := self._peek()) != sign:
            raise self._unexpected(seen, f"'{sign}'")
        self._at += 1

    def _peek(self) -> str:
        """The next sign that is no blank; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                sign = self._buffer[self._at]
                if sign not in _BLANKS:
                    return sign
                self._at += 1
            if self._ended:
                return ""
            self._read(_CHUNK)

    def _read(self, characters: int) -> None:
        try:
            more = self._source.read(characters)
        except UnicodeDecodeError as error:
            raise NotJson(f"not UTF-8: {error.reason}") from error
        self._ended = not more
        self._before += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def _unexpected(self, seen: str, expected: str) -> NotJson:
        what = f"'{seen}'" if seen else "the end"
        return NotJson(f"seen {what}, expected {expected}, near character {self._place()}")


def _no_number(text: str) -> Any:
    raise NotJson(f"seen {text}, expected a number")
