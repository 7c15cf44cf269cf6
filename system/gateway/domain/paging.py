"""Turns cursors into places in a list that is served in numbered pages (R10.3).

The list is newest first and grows at its front, so a cursor holds the place and the id of an entry:
whoever looks the entry up again finds it at its place or, if new ones have come, behind it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

DEFAULT_SIZE: Final = 10
MAXIMUM_SIZE: Final = 100  # R10.3, and the largest page of the REST lists


class BadCursor(ValueError):
    """Not a cursor of ours."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where an entry stood.

    Attributes:
        place: entries before it.
        id: of the entry.
    """

    place: int
    id: str

    def write(self) -> str:
        """The opaque text."""
        return base64.urlsafe_b64encode(f"{self.place}:{self.id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Read what `Cursor.write` wrote.

    Raises:
        BadCursor: it did not.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        place, colon, id = base64.b64decode(padded, b"-_", validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise BadCursor(text) from error
    if not colon or not place.isascii() or not place.isdigit() or len(place) > 9 or not id:
        raise BadCursor(text)
    return Cursor(int(place), id)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the REST list, and the part of it that is wanted.

    Attributes:
        number: from 1.
        size: entries per page.
        start, end: the wanted entries within the page.
    """

    number: int
    size: int
    start: int
    end: int


def pages(start: int, count: int) -> list[Page]:
    """The pages that hold entries `start` to `start + count`: one if one can, else few.

    Args:
        start: entries before the first wanted one.
        count: at least 1.
    """
    for size in range(count, MAXIMUM_SIZE + 1):
        number = start // size
        if (start + count - 1) // size == number:
            begin = start - number * size
            return [Page(number + 1, size, begin, begin + count)]
    size = min(count, MAXIMUM_SIZE)
    found = []
    end = start + count
    for number in range(start // size, (end - 1) // size + 1):
        first = number * size
        found.append(Page(number + 1, size, max(start - first, 0), min(end - first, size)))
    return found
