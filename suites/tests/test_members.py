"""What several members of one service tell is judged as if one had told it."""

from __future__ import annotations

from typing import Any

from suites.probes.diagnostics import together


def told(id: str, times: list[str], processed: str | None) -> dict[str, Any]:
    """One probe as a member of a service tells of it (R3.53)."""
    return {
        "eventId": id,
        "seq": 1,
        "attempts": len(times),
        "attemptTimes": times,
        "processedAt": processed,
    }


def test_attempts_of_all_members_count() -> None:
    """A probe that failed in one process and succeeded in another has one life."""
    first = [told("a", ["10:00:02", "10:00:01"], None)]
    second = [told("a", ["10:00:04"], "10:00:04")]

    assert together([first, second]) == [
        told("a", ["10:00:01", "10:00:02", "10:00:04"], "10:00:04")
    ]


def test_the_order_of_effect_is_that_of_the_whole() -> None:
    """Whoever handled them; what has not succeeded comes last."""
    first = [told("b", ["10:00:02"], "10:00:02"), told("d", ["10:00:05"], None)]
    second = [told("a", ["10:00:01"], "10:00:01"), told("c", ["10:00:03"], "10:00:03")]

    assert [probe["eventId"] for probe in together([first, second])] == ["a", "b", "c", "d"]
