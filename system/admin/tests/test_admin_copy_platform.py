"""R2.15, R2.21, R2.22, R0.19: the copy of users in the real admin_db, with the service's role."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from system.admin.adapters.unit import PostgresUnit
from system.admin.domain.users import LAST_VERSION, User
from system.admin.service import copies
from system.admin.tests.fakes import START, a_user
from system.admin.tests.platform_client import Stack
from system.platform.database import Database, Transaction

pytestmark = pytest.mark.platform


class Undo(Exception):
    """Ends a test's transaction without a trace."""


class Copy:
    """The copy as one transaction sees it."""

    def __init__(self, transaction: Transaction) -> None:
        self.tx = transaction
        self.unit = PostgresUnit(transaction)

    async def user(self, user_id: str) -> Any:
        row = await self.tx.fetchrow("SELECT * FROM users WHERE id = $1", user_id)
        return None if row is None else User(**dict(row))


@pytest.fixture
async def copy(stack: Stack) -> AsyncIterator[Copy]:
    """The copy in a transaction that leaves no trace."""
    database = Database(stack.target["access"]["db"]["admin"]["service_url"])
    await database.start()
    try:
        with contextlib.suppress(Undo):
            async with database.transaction() as transaction:
                yield Copy(transaction)
                raise Undo
    finally:
        await database.close()


def somebody(**changes: Any) -> User:
    """Return a user nobody has seen before."""
    made = str(uuid.uuid4())
    return a_user(1, id=made, email=f"{made}@copy.test", **changes)


def later(user: User, **changes: Any) -> User:
    """Return the user after a change."""
    updated_at = user.updated_at + timedelta(hours=1)
    return replace(user, version=user.version + 1, updated_at=updated_at, **changes)


async def test_r2_21_only_what_is_newer_changes_the_copy(copy: Copy) -> None:
    """One at a time and many at once; the owner's times are kept."""
    user = somebody(name="one")
    newer, newest = later(user, name="two"), later(later(user), name="three", role="VENDOR")
    await copies.put(user, copy.unit)
    assert await copy.user(user.id) == user
    await copies.put(newest, copy.unit)
    await copies.put(newer, copy.unit)
    await copy.unit.put_users([user, newer])
    assert await copy.user(user.id) == newest
    await copy.unit.put_users([later(newest, status="suspended")])
    assert (await copy.user(user.id)).status == "suspended"


async def test_r2_22_a_deleted_user_stays_deleted(copy: Copy) -> None:
    """Whatever comes later, however often."""
    user = somebody()
    await copies.put(user, copy.unit)
    for _ in range(2):
        await copies.remove(user.id, 2, copy.unit)
    await copies.put(later(later(user)), copy.unit)
    await copy.unit.put_users([later(later(user))])
    assert await copy.user(user.id) is None
    assert await copy.unit.known_version(user.id) == LAST_VERSION


async def test_r9_11_who_is_there_follows_events_though_deleted_before(copy: Copy) -> None:
    """An import writes the copy directly, whatever was before it."""
    user = somebody()
    await copies.put(user, copy.unit)
    await copies.remove(user.id, 2, copy.unit)
    await copy.tx.execute(
        "INSERT INTO users (id, email, name, role) VALUES ($1, $2, 'Imported', 'CUSTOMER')",
        user.id,
        user.email,
    )

    await copies.put(later(user), copy.unit)
    assert await copy.user(user.id) == later(user)
    await copies.remove(user.id, 3, copy.unit)
    assert await copy.user(user.id) is None


async def test_r2_22_addresses_change_hands(copy: Copy) -> None:
    """Two users who swap theirs, in whatever order it is told; an old page takes none back."""
    one, two = somebody(), somebody()
    swapped = [later(one, email=two.email), later(two, email=one.email)]
    await copy.unit.put_users([one, two])
    await copies.put(swapped[0], copy.unit)
    assert (await copy.user(two.id)).email.startswith("superseded-")
    await copy.unit.put_users([one, two])
    assert await copy.user(one.id) == swapped[0]
    await copies.put(swapped[1], copy.unit)
    assert [await copy.user(user.id) for user in (one, two)] == swapped
    back = [later(swapped[0], email=one.email), later(swapped[1], email=two.email)]
    await copy.unit.put_users(back)
    assert [await copy.user(user.id) for user in (one, two)] == back


async def test_r1_125_the_time_of_creation_is_learnt_later(copy: Copy) -> None:
    """From a page of auth-service, when the event of the creation was missed."""
    user = somebody()
    first = replace(later(user), created_at=None)
    await copies.put(first, copy.unit)
    assert (await copy.user(user.id)).created_at == first.updated_at
    await copy.unit.put_users([later(user)])
    assert (await copy.user(user.id)).created_at == START


async def test_r1_134_a_page_of_a_thousand_in_one_go(copy: Copy) -> None:
    """All of them, in three statements."""
    many = [somebody() for _ in range(1000)]
    await copy.unit.put_users(many)
    ids = [user.id for user in many]
    count = "SELECT count(*) FROM users WHERE id = ANY($1::text[])"
    assert await copy.tx.fetchval(count, ids) == 1000
