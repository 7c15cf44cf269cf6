"""Keeps the counters of failed logins and the known clients in auth_db (R2.7, R2.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from system.auth.domain.throttles import Scope, Throttle
from system.platform.database import Transaction


class PostgresThrottles:
    """`ports.ThrottleRows` on one database transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    async def hold_throttle(self, key: str) -> None:
        # A row that is not there yet cannot be locked; its name can.
        await self._tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            key,
            operation="select",
            table="login_throttles",
        )

    async def throttles(self, keys: Sequence[str]) -> Mapping[str, Throttle]:
        rows = await self._tx.fetch(
            """SELECT key, scope, failures, first_failure_at, last_failure_at, locked_until,
                      next_try_at
               FROM login_throttles WHERE key = ANY($1::text[])""",
            list(keys),
            operation="select",
            table="login_throttles",
        )
        return {row["key"]: _throttle(row) for row in rows}

    async def pairs_of(self, account_key: str) -> Sequence[Throttle]:
        rows = await self._tx.fetch(
            """SELECT t.key, t.scope, t.failures, t.first_failure_at, t.last_failure_at,
                      t.locked_until, t.next_try_at
               FROM login_throttle_pairs p JOIN login_throttles t ON t.key = p.pair_key
               WHERE p.account_key = $1 ORDER BY t.key""",
            account_key,
            operation="select",
            table="login_throttles",
        )
        return [_throttle(row) for row in rows]

    async def store_throttle(self, throttle: Throttle) -> None:
        await self._tx.execute(
            """INSERT INTO login_throttles (key, scope, failures, first_failure_at,
                                            last_failure_at, locked_until, next_try_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (key) DO UPDATE
               SET failures = $3, first_failure_at = $4, last_failure_at = $5,
                   locked_until = $6, next_try_at = $7""",
            throttle.key,
            throttle.scope,
            throttle.failures,
            throttle.first_failure_at,
            throttle.last_failure_at,
            throttle.locked_until,
            throttle.next_try_at,
            operation="insert",
            table="login_throttles",
        )

    async def link_pair(self, pair_key: str, account_key: str) -> None:
        await self._tx.execute(
            """INSERT INTO login_throttle_pairs (pair_key, account_key) VALUES ($1, $2)
               ON CONFLICT (pair_key) DO NOTHING""",
            pair_key,
            account_key,
            operation="insert",
            table="login_throttle_pairs",
        )

    async def clear_throttles(self, keys: Sequence[str]) -> None:
        await self._tx.execute(
            "DELETE FROM login_throttles WHERE key = ANY($1::text[])",
            list(keys),
            operation="delete",
            table="login_throttles",
        )

    async def is_known_client(self, user_id: str, clients: Sequence[str], since: datetime) -> bool:
        return bool(
            await self._tx.fetchval(
                """SELECT EXISTS (SELECT 1 FROM known_clients
                                  WHERE user_id = $1 AND client = ANY($2::text[])
                                        AND last_success_at > $3)""",
                user_id,
                list(clients),
                since,
                operation="select",
                table="known_clients",
            )
        )

    async def note_clients(self, user_id: str, clients: Sequence[str], now: datetime) -> None:
        await self._tx.execute(
            """INSERT INTO known_clients (user_id, client, last_success_at)
               SELECT $1, client, $3 FROM unnest($2::text[]) AS client ORDER BY client
               ON CONFLICT (user_id, client) DO UPDATE SET last_success_at = $3""",
            user_id,
            list(clients),
            now,
            operation="insert",
            table="known_clients",
        )


def _throttle(row: Any) -> Throttle:
    return Throttle(
        key=row["key"],
        scope=Scope(row["scope"]),
        failures=row["failures"],
        first_failure_at=row["first_failure_at"],
        last_failure_at=row["last_failure_at"],
        locked_until=row["locked_until"],
        next_try_at=row["next_try_at"],
    )
