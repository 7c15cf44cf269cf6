"""Reads a stretch of a REST list as a connection (R10.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from system.gateway.domain.paging import (
    DEFAULT_SIZE,
    MAXIMUM_SIZE,
    BadCursor,
    Cursor,
    pages,
    read_cursor,
)
from system.gateway.entrypoints.graphql.session import Session
from system.gateway.entrypoints.graphql.shapes import PageInfo, PaginationInput
from system.platform.http.errors import Issue, validation

# Beyond every list: the answer holds no entry, only how many there are.
_BEYOND: Final = 1_000_000
# How many entries may have come before one since its cursor was made, until it counts as gone.
_SEARCHED: Final = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `PaginationInput` asks for.

    Attributes:
        size: entries.
        from_end: the last ones instead of the first.
        after, before: bounds, exclusive.
    """

    size: int
    from_end: bool
    after: Cursor | None
    before: Cursor | None


def wanted(given: PaginationInput | None) -> Wanted:
    """Check a `PaginationInput`.

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    if given is None:
        return Wanted(DEFAULT_SIZE, False, None, None)
    issues: list[Issue] = []
    first, last = given.first or None, given.last or None
    for name, size in (("first", given.first), ("last", given.last)):
        if isinstance(size, int) and not 1 <= size <= MAXIMUM_SIZE:
            code = "too_small" if size < 1 else "too_big"
            issues.append(Issue((name,), code, f"Must be 1 to {MAXIMUM_SIZE}"))
    if first is not None and last is not None:
        issues.append(Issue(("last",), "custom", "Only one of first and last may be given"))
    cursors: dict[str, Cursor | None] = {}
    for name, text in (("after", given.after), ("before", given.before)):
        try:
            cursors[name] = read_cursor(text) if isinstance(text, str) else None
        except BadCursor:
            issues.append(Issue((name,), "invalid_string", "Not a cursor"))
    if issues:
        raise validation(issues)
    return Wanted(
        last or first or DEFAULT_SIZE, last is not None, cursors["after"], cursors["before"]
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries next to each other.

    Attributes:
        entries: as REST gave them, each with its cursor.
        page_info: what is before and behind.
        total: entries of the whole list.
    """

    entries: tuple[tuple[Mapping[str, Any], str], ...]
    page_info: PageInfo
    total: int


# Place of the first entry, the entries, how many there are in all.
_Found = tuple[int, list[Mapping[str, Any]], int]


class RestList:
    """A list that REST serves in pages, newest first.

    Args:
        session: of the request.
        path: public path.
        name: of the array in `data`.
        query: filters and order.
    """

    def __init__(self, session: Session, path: str, name: str, query: Mapping[str, Any]) -> None:
        self._session = session
        self._path = path
        self._name = name
        self._query = dict(query)

    async def stretch(self, wish: Wanted) -> Stretch:
        """Read what is wanted.

        Raises:
            ApiError: the service's refusal.
        """
        found = await self._beside(wish)
        if found is None:
            found = await self._between(wish)
        low, raws, total = found
        entries = tuple(
            (raw, Cursor(low + index, raw["id"]).write()) for index, raw in enumerate(raws)
        )
        return Stretch(
            entries,
            PageInfo(
                has_next_page=low + len(raws) < total,
                has_previous_page=low > 0 and total > 0,
                start_cursor=entries[0][1] if entries else None,
                end_cursor=entries[-1][1] if entries else None,
            ),
            total,
        )

    async def _beside(self, wish: Wanted) -> _Found | None:
        """Paging on from a cursor whose entry is where it was: read together with that entry."""
        if wish.after is not None and wish.before is None and not wish.from_end:
            raws, total = await self._read(wish.after.place, wish.size + 1)
            if raws and raws[0]["id"] == wish.after.id:
                return wish.after.place + 1, raws[1:], total
        if wish.before is not None and wish.after is None and wish.from_end:
            low = max(wish.before.place - wish.size, 0)
            raws, total = await self._read(low, wish.before.place - low + 1)
            if raws and raws[-1]["id"] == wish.before.id:
                return low, raws[:-1], total
        return None

    async def _between(self, wish: Wanted) -> _Found:
        low, high = 0, None
        if wish.after is not None:
            low = await self._place(wish.after) + 1
        if wish.before is not None:
            high = await self._place(wish.before)
        if wish.from_end:
            if high is None:
                _, high = await self._page(_BEYOND, MAXIMUM_SIZE)
            low = max(low, high - wish.size)
        count = wish.size if high is None else min(wish.size, max(high - low, 0))
        if not count:
            _, total = await self._page(_BEYOND, MAXIMUM_SIZE)
            return low, [], total
        raws, total = await self._read(low, count)
        return low, raws, total

    async def _place(self, cursor: Cursor) -> int:
        """Where the entry of a cursor is now; where it was if it is gone."""
        place = cursor.place
        while place < cursor.place + _SEARCHED:
            # The page that holds the place tells nearly always; the next ones if many came.
            size = MAXIMUM_SIZE if place > cursor.place else DEFAULT_SIZE
            number = place // size
            found, total = await self._page(number + 1, size)
            for index, raw in enumerate(found):
                if raw["id"] == cursor.id:
                    return number * size + index
            place = (number + 1) * size
            if place >= total:
                break
        return cursor.place

    async def _read(self, start: int, count: int) -> tuple[list[Mapping[str, Any]], int]:
        found: list[Mapping[str, Any]] = []
        total = 0
        for page in pages(start, count):
            entries, total = await self._page(page.number, page.size)
            found += entries[page.start : page.end]
        return found, total

    async def _page(self, number: int, size: int) -> tuple[list[Mapping[str, Any]], int]:
        data = await self._session.load(self._path, {**self._query, "page": number, "limit": size})
        return data[self._name], data["pagination"]["total"]
