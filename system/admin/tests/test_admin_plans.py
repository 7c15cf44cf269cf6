"""R1.126, R1.138, R11.3: every list finds its rows by an index, on 100,000 users and rows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest

from system.admin.adapters.audit import audit_statement
from system.admin.adapters.store import BY_INDEX, is_short, users_statement
from system.admin.domain.audit import AuditFilter
from system.admin.domain.users import Role, Sort, Status, UserQuery
from system.admin.tests.platform_client import Stack
from system.platform.migrations import upgrade

pytestmark = pytest.mark.platform

ROWS = 100_000
MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
FILL = """
INSERT INTO users (id, email, name, role, status, created_at, updated_at)
SELECT 'u' || n, md5(n::text) || '@x.test',
       CASE WHEN n % 1000 = 0 THEN 'F_' || n || '%\\' ELSE initcap(md5((n + 7)::text)) END,
       (ARRAY['ADMIN', 'CUSTOMER', 'VENDOR'])[1 + n % 3]::"UserRole",
       (CASE WHEN n % 50 = 0 THEN 'suspended' ELSE 'active' END)::"UserStatus",
       timestamptz '2026-01-01' + n * interval '1 second', now()
FROM generate_series(1, $1) n
"""
FILL_LOG = """
INSERT INTO audit_logs (id, event_id, user_id, action, resource_type, resource_id, details,
                        created_at)
SELECT 'a' || n, 'e' || n, 'u' || n % 1000,
       (ARRAY['USER_LOGIN', 'PAYMENT_CREATED', 'USER_LOGOUT', 'PROFILE_UPDATED'])[1 + n % 4],
       (ARRAY['user', 'payment', 'session', 'system_config'])[1 + n % 4], 'r' || n,
       jsonb_build_object('n', n, 'source', 'auth_service_event', 'text', repeat('x', 200)),
       timestamptz '2026-01-01' + n * interval '1 second'
FROM generate_series(1, $1) n
"""


async def _fill(server_url: str, name: str, url: str) -> None:
    await _execute(server_url, f"CREATE DATABASE {name}")
    upgrade(url, MIGRATIONS, "admin_service")
    await _execute(url, FILL, ROWS)
    await _execute(url, FILL_LOG, ROWS)
    await _execute(url, "VACUUM ANALYZE")


async def _execute(url: str, sql: str, *values: Any) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql, *values)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def full(stack: Stack) -> Iterator[str]:
    """A database like admin_db with many users and rows, beside the real one; its URL."""
    server_url = stack.database("admin")
    name = f"plans_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    try:
        asyncio.run(_fill(server_url, name, url))
        yield url
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def scans(plan: dict[str, Any]) -> list[str]:
    """The ways in which a plan reads tables and indexes."""
    own = [plan["Node Type"]] if plan["Node Type"].endswith("Scan") else []
    return own + [scan for part in plan.get("Plans", ()) for scan in scans(part)]


async def explained(
    url: str, sql: str, values: tuple[Any, ...], *, by_index: bool
) -> tuple[dict[str, Any], Sequence[Any]]:
    """The plan of a statement, and its rows.

    Args:
        by_index: as the store runs short searches.
    """
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            if by_index:
                await connection.execute(BY_INDEX)
            rows = await connection.fetch(sql, *values)
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
    finally:
        await connection.close()
    return msgspec.json.decode(plan)[0]["Plan"], rows


START = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILTERS = (
    AuditFilter(),
    AuditFilter(action="USER_LOGIN"),
    AuditFilter(resource_type="payment"),
    AuditFilter(action="PAYMENT_CREATED", start=START),
    AuditFilter(user_id="u7"),
    AuditFilter(start=START, end=START + timedelta(hours=1)),
    AuditFilter("USER_LOGIN", "u8", "user", START, START + timedelta(hours=9)),
)
QUERIES = (
    *(UserQuery(sort=sort, descending=down) for sort in Sort for down in (True, False)),
    *(UserQuery(role=role) for role in Role),
    UserQuery(role=Role.ADMIN, status=Status.ACTIVE, sort=Sort.NAME),
    UserQuery(role=Role.VENDOR, status=Status.SUSPENDED, sort=Sort.EMAIL),
    *(UserQuery(status=status) for status in Status),
)
SEARCHES = (
    "abcd",
    "b238a0b923820dcc509a6f75849b@X",
    # No three letters together: the index of such groups is no help.
    *("a", "B", "AB", "q", "zq", "@", ".t", "@x.", "...", "%", "f_", "_f", "\\"),
)
Statement = tuple[str, tuple[Any, ...]]


def rows_by_index(url: str, statement: Statement, *, short: bool = False) -> Sequence[Any]:
    """Judge the plan of a statement; give its rows."""
    plan, rows = asyncio.run(explained(url, *statement, by_index=short))
    found = scans(plan)

    assert any("Index" in scan for scan in found), found
    assert "Seq Scan" not in found, found
    return rows


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
def test_r1_138_a_page_of_the_audit_log_comes_by_index(full: str, wanted: AuditFilter) -> None:
    """Whatever the filter, neither the rows of a page nor their number take the whole table."""
    rows_by_index(full, audit_statement(wanted, 20, 0))


@pytest.mark.parametrize("query", QUERIES, ids=repr)
def test_r1_126_a_page_of_users_comes_by_index(full: str, query: UserQuery) -> None:
    """Whatever order or filter, neither the rows of a page nor their number take the table."""
    rows_by_index(full, users_statement(query))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "others",
    [{}, {"sort": Sort.NAME, "descending": False}, {"role": Role.ADMIN, "status": Status.ACTIVE}],
    ids=repr,
)
def test_r1_126_a_search_finds_by_index(full: str, search: str, others: dict[str, Any]) -> None:
    """However short and whatever signs: in order, the right ones and their right number."""
    query = UserQuery(search=search, **others)

    rows = rows_by_index(full, users_statement(query), short=is_short(search))

    expected = asyncio.run(looked_through(full, query))
    assert rows[0]["total"] == len(expected)
    assert [row["id"] for row in rows if row["id"] is not None] == expected[: query.limit]


async def looked_through(url: str, query: UserQuery) -> list[str]:
    """The ids that a search should give, in order, by looking at every user."""
    connection = await asyncpg.connect(url)
    try:
        users = await connection.fetch(
            "SELECT id, email, name, role, status, created_at FROM users"
        )
    finally:
        await connection.close()
    wanted = str(query.search).lower()
    found = [
        user
        for user in users
        if (wanted in user["email"] or wanted in user["name"].lower())
        and query.role in (None, user["role"])
        and query.status in (None, user["status"])
    ]
    by = "name" if query.sort is Sort.NAME else "created_at"
    found.sort(key=lambda user: (user[by], user["id"]), reverse=query.descending)
    return [user["id"] for user in found]
