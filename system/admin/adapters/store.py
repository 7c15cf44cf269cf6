"""Reads users and configuration in admin_db (2.3), with plain SQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final

from system.admin.adapters.unit import PostgresUnit
from system.admin.domain.configuration import Setting
from system.admin.domain.users import Sort, User, UserQuery
from system.platform.database import Database

_USER: Final = "id, email, name, role, status, email_verified, version, created_at, updated_at"
_SETTING: Final = "key, value, description, updated_at, updated_by"
_SORTS: Final = {
    Sort.CREATED_AT: "created_at",
    Sort.EMAIL: "email",
    Sort.NAME: "name",
    Sort.ROLE: "role",
}
_GROUP: Final = re.compile(r"[^\W_]{3}")
# For a short search.  Reading an index that has all it needs takes half the time of reading so
# narrow a table, though the planner thinks otherwise; and it must see the letters, since how often
# they occur decides the order in which to look.
BY_INDEX: Final = """
SELECT set_config('enable_seqscan', 'off', true),
       set_config('plan_cache_mode', 'force_custom_plan', true)
"""


class PostgresStore:
    """`ports.Store` on the service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresUnit]:
        """See `ports.Store.transaction`."""
        async with self._database.transaction() as transaction:
            yield PostgresUnit(transaction)

    async def users(self, query: UserQuery) -> tuple[Sequence[User], int]:
        """See `ports.Store.users`."""
        sql, values = users_statement(query)
        if is_short(query.search):
            async with self._database.transaction() as transaction:
                await transaction.execute(BY_INDEX, operation="set", table="users")
                rows = await transaction.fetch(sql, *values, operation="select", table="users")
        else:
            rows = await self._database.fetch(sql, *values, operation="select", table="users")
        # The total comes with every row, and with an empty one where the page has none.
        return [_user(row) for row in rows if row["id"] is not None], rows[0]["total"]

    async def user(self, user_id: str) -> User | None:
        """See `ports.Store.user`."""
        row = await self._database.fetchrow(f"SELECT {_USER} FROM users WHERE id = $1", user_id)
        return None if row is None else _user(row)

    async def user_ids(self) -> Collection[str]:
        """See `ports.Store.user_ids`."""
        return [row["id"] for row in await self._database.fetch("SELECT id FROM users")]

    async def settings(self) -> Sequence[Setting]:
        """See `ports.Store.settings`."""
        rows = await self._database.fetch(f"SELECT {_SETTING} FROM system_config ORDER BY key")
        return [Setting(*row) for row in rows]

    async def setting(self, key: str) -> Setting | None:
        """See `ports.Store.setting`."""
        row = await self._database.fetchrow(
            f"SELECT {_SETTING} FROM system_config WHERE key = $1", key
        )
        return None if row is None else Setting(*row)


def users_statement(query: UserQuery) -> tuple[str, tuple[Any, ...]]:
    """Write the one statement of a page, and its parameters."""
    part = None if query.search is None else f"%{_literal(query.search)}%"
    short = is_short(query.search)
    # The index of groups has names as they are written: this spelling keeps a short search out,
    # for which it would be read as a whole, and every row with it.
    named = "lower(name) LIKE lower({0})" if short else "name ILIKE {0}"
    filters = {
        "role = {}": query.role,
        "status = {}": query.status,
        # E-mails are kept in lower case (R2.15), so LIKE will do, at a fraction of the cost.
        f"(email LIKE lower({{0}}) OR {named})": part,
    }
    present = {condition: value for condition, value in filters.items() if value is not None}
    write = _page_of_ids if short else _page_of_users
    sql = write(_SORTS[query.sort], query.descending, tuple(present))
    skipped = (query.page - 1) * query.limit
    return sql, (query.limit, skipped, *present.values())


@lru_cache(maxsize=256)
def _page_of_users(sort: str, descending: bool, conditions: tuple[str, ...]) -> str:
    """Write the rows of a page in order, each with the total; $1 limit, $2 rows to skip."""
    found, order = _found(conditions), _order(sort, descending)
    return (
        f"SELECT {_USER}, t.total FROM (SELECT count(*) {found}) t(total) "
        f"LEFT JOIN (SELECT {_USER} {found} ORDER BY {order} "
        f"LIMIT $1::bigint OFFSET $2::bigint) u ON true ORDER BY {order}"
    )


@lru_cache(maxsize=256)
def _page_of_ids(sort: str, descending: bool, conditions: tuple[str, ...]) -> str:
    """Write the same so that an index finds and counts the rows; only those shown are read."""
    found, order = _found(conditions), _order(sort, descending)
    return (
        f"SELECT {_USER}, t.total FROM (SELECT count(*) {found}) t(total) "
        f"LEFT JOIN (SELECT id AS shown {found} ORDER BY {order} "
        "LIMIT $1::bigint OFFSET $2::bigint) page ON true "
        f"LEFT JOIN users ON id = shown ORDER BY {order}"
    )


def _found(conditions: tuple[str, ...]) -> str:
    where = [condition.format(f"${number}") for number, condition in enumerate(conditions, 3)]
    return f"FROM users{' WHERE ' + ' AND '.join(where) if where else ''}"


def _order(sort: str, descending: bool) -> str:
    direction = "DESC" if descending else "ASC"
    return f"{sort} {direction}, id {direction}"


def is_short(search: str | None) -> bool:
    """Say whether a search has no three letters together, by which the index of groups finds."""
    return search is not None and _GROUP.search(search) is None


def _literal(search: str) -> str:
    """Return a text as LIKE takes it for itself (R1.126)."""
    return search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _user(row: Any) -> User:
    return User(*row[: len(User.__dataclass_fields__)])
