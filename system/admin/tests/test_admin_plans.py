"""R1.126, R1.138, R11.3: every list finds its rows by an index, on 100,000 users and rows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest

from system.admin.adapters.audit import audit_statement
from system.admin.adapters.store import users_statement
from system.admin.domain.audit import AuditFilter
from system.admin.domain.users import Role, Sort, Status, UserQuery
from system.admin.tests.platform_client import Stack
from system.platform.migrations import upgrade

pytestmark = pytest.mark.platform

ROWS = 100_000
MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
FILL = """
INSERT INTO users (id, email, name, role, status, created_at, updated_at)
SELECT 'u' || n, md5(n::text) || '@x.test', md5((n + 7)::text),
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


def scans(plan: dict[str, Any], *, page_only: bool, inside: bool = False) -> list[str]:
    """The ways in which a plan reads tables and indexes.

    Args:
        page_only: without those of the count, which has to see every row that it counts.
        inside: the plan is part of the page.
    """
    inside = inside or plan["Node Type"] == "Limit"
    counts = inside or not page_only
    own = [plan["Node Type"]] if counts and plan["Node Type"].endswith("Scan") else []
    below = plan.get("Plans", ())
    return own + [s for part in below for s in scans(part, page_only=page_only, inside=inside)]


async def plan_of(url: str, sql: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """The plan of a statement, when it is really run."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
    finally:
        await connection.close()
    [explanation] = msgspec.json.decode(rows)
    plan: dict[str, Any] = explanation["Plan"]
    return plan


START = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILTERS = (
    AuditFilter(),
    AuditFilter(action="USER_LOGIN"),
    AuditFilter(resource_type="payment"),
    AuditFilter(action="PAYMENT_CREATED", start=START),
)
FEW_ROWS = (
    AuditFilter(user_id="u7"),
    AuditFilter(start=START, end=START + timedelta(hours=1)),
    AuditFilter("USER_LOGIN", "u8", "user", START, START + timedelta(hours=9)),
)
QUERIES = (
    *(UserQuery(sort=sort, descending=down) for sort in Sort for down in (True, False)),
    *(UserQuery(role=role) for role in Role),
    UserQuery(role=Role.ADMIN, status=Status.ACTIVE, sort=Sort.NAME),
    UserQuery(role=Role.VENDOR, status=Status.SUSPENDED, sort=Sort.EMAIL),
)
FEW_USERS = (
    UserQuery(status=Status.SUSPENDED),
    UserQuery(search="abcd"),
    UserQuery(search="b238a0b923820dcc509a6f75849b@X", sort=Sort.EMAIL),
    UserQuery(search="abcde", role=Role.VENDOR, status=Status.ACTIVE),
)
Statement = tuple[str, tuple[Any, ...]]


def by_index(url: str, statement: Statement, *, page_only: bool) -> None:
    """Judge the plan of a statement."""
    found = scans(asyncio.run(plan_of(url, *statement)), page_only=page_only)

    assert any("Index" in scan for scan in found), found
    assert "Seq Scan" not in found


@pytest.mark.parametrize("wanted", [*FILTERS, *FEW_ROWS], ids=repr)
def test_r1_138_a_page_of_the_audit_log_comes_by_index(full: str, wanted: AuditFilter) -> None:
    """Whatever the filter, the rows of a page are not looked for in the whole table."""
    by_index(full, audit_statement(wanted, 20, 0), page_only=True)


@pytest.mark.parametrize("wanted", FEW_ROWS, ids=repr)
def test_r1_138_few_rows_are_counted_by_index(full: str, wanted: AuditFilter) -> None:
    """A filter that leaves few rows spares the table altogether."""
    by_index(full, audit_statement(wanted, 20, 0), page_only=False)


@pytest.mark.parametrize("query", [*QUERIES, *FEW_USERS], ids=repr)
def test_r1_126_a_page_of_users_comes_by_index(full: str, query: UserQuery) -> None:
    """Whatever order, filter or search, the rows of a page are not looked for in the table."""
    by_index(full, users_statement(query), page_only=True)


@pytest.mark.parametrize("query", FEW_USERS, ids=repr)
def test_r1_126_few_users_are_counted_by_index(full: str, query: UserQuery) -> None:
    """A search for three signs or more spares the table altogether."""
    by_index(full, users_statement(query), page_only=False)
