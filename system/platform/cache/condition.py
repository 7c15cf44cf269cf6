"""How the cache is doing: what became of its reads, and whether Redis is there and trusted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the reads of one `cache_type` in this process, since its start.

    Attributes:
        hits: answers with HIT.
        misses: answers with MISS.
        bypasses: answers with BYPASS, whatever the reason.
        entries: entries in Redis now, of all processes, those no longer trusted included until
            they expire; None if Redis could not be asked.
    """

    hits: int
    misses: int
    bypasses: int
    entries: int | None


@dataclass(frozen=True, slots=True)
class CacheHealth:
    """How the cache is at one moment.

    Attributes:
        reachable: Redis answers within the time-out of R6.9.
        trusted: what it holds may be served; False while the cache is in doubt.
    """

    reachable: bool
    trusted: bool
