"""The notation of the data model's policy is read as it says, and a slip in it is told."""

from __future__ import annotations

import pytest

from suites.probes.schema import Column, column, policies


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text", Column("text")),
        ("text PK", Column("text", primary=True)),
        ("text? U I", Column("text", nullable=True, unique=True, indexed=True)),
        ("boolean D", Column("boolean", default=True)),
        ("text I FK=users:cascade", Column("text", indexed=True, foreign=("users", "cascade"))),
        ("text? FK=devices:set null", Column("text", True, foreign=("devices", "set null"))),
    ],
)
def test_a_column_is_read(text: str, expected: Column) -> None:
    """Type, ?, flags and reference."""
    assert column(text) == expected


def test_an_unknown_flag_is_told() -> None:
    """A misspelt flag would be a promise nobody holds the target to."""
    with pytest.raises(ValueError, match=r"unknown flags \['X'\]"):
        column("text X")


def test_every_service_has_its_tables_and_the_common_ones() -> None:
    """Four databases, each with outbox and inbox; each table has a primary key."""
    found = policies()
    assert set(found) == {"auth", "payments", "admin", "profile"}
    for policy in found.values():
        assert {"outbox", "inbox"} < set(policy.tables)
        assert all(table.primary_key for table in policy.tables.values())
