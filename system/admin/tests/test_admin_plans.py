"""R1.126, R1.138, R11.3: every list finds its rows by an index, on 100,000 users and rows."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
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


@pytest.fixture(scope="module")
async def full(stack: Stack) -> AsyncIterator[str]:
    """A database like admin_db with many users and rows, beside the real one; its URL."""
    server = await asyncpg.connect(stack.database("admin"))
    name = f"plans_{uuid.uuid4().hex[:8]}"
    await server.execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(stack.database("admin"))._replace(path=f"/{name}"))
    try:
        upgrade(url, MIGRATIONS, "admin_service")
        connection = await asyncpg.connect(url)
        await connection.execute(FILL, ROWS)
        await connection.execute(FILL_LOG, ROWS)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        yield url
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


def scans(plan: dict[str, Any]) -> list[str]:
    """The ways in which a plan reads tables and indexes."""
    own = [plan["Node Type"]] if plan["Node Type"].endswith("Scan") else []
    return own + [scan for below in plan.get("Plans", ()) for scan in scans(below)]


async def explained(url: str, sql: str, values: tuple[Any, ...]) -> tuple[list[str], float]:
    """The scans of a statement, and the milliseconds it takes."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
    finally:
        await connection.close()
    [explanation] = msgspec.json.decode(rows)
    return scans(explanation["Plan"]), explanation["Execution Time"]


START = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILTERS = (
    AuditFilter(),
    AuditFilter(action="USER_LOGIN"),
    AuditFilter(user_id="u7"),
    AuditFilter(resource_type="payment"),
    AuditFilter(start=START, end=START + timedelta(hours=1)),
    AuditFilter("USER_LOGIN", "u8", "user", START, START + timedelta(hours=9)),
)
QUERIES = (
    *(UserQuery(sort=sort, descending=down) for sort in Sort for down in (True, False)),
    *(UserQuery(role=role) for role in Role),
    UserQuery(status=Status.SUSPENDED),
    UserQuery(role=Role.ADMIN, status=Status.ACTIVE, sort=Sort.NAME),
    UserQuery(search="abcd"),
    UserQuery(search="5%_\\"),
    UserQuery(search="c4ca4238a0b923820dcc509a6f75849b@X", sort=Sort.EMAIL),
    UserQuery(search="abcde", role=Role.VENDOR, status=Status.ACTIVE),
)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
async def test_r1_138_the_audit_log_is_read_by_index(full: str, wanted: AuditFilter) -> None:
    """No filter and no combination reads the whole table."""
    found, _ = await explained(full, *audit_statement(wanted, 20, 0))

    assert any("Index" in scan for scan in found)
    assert "Seq Scan" not in found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("query", QUERIES, ids=repr)
async def test_r1_126_users_are_read_by_index(full: str, query: UserQuery) -> None:
    """No order, filter or search reads the whole table."""
    found, _ = await explained(full, *users_statement(query))

    assert any("Index" in scan for scan in found)
    assert "Seq Scan" not in found
