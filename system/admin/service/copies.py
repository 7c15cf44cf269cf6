"""Keeps the copy of users: by events, by the answers to commands, by reconciliation (R1.134)."""

from __future__ import annotations

import logging
from typing import Final

from system.admin.domain import users
from system.admin.domain.users import User
from system.admin.ports import Accounts, Store, Unit

_log: Final = logging.getLogger(__name__)


async def put(user: User, unit: Unit) -> None:
    """Bring the copy of a user up to this version; an older one changes nothing (R2.21)."""
    await unit.lock_copy()
    if users.is_news(user.version, await unit.known_version(user.id)):
        await unit.put_user(user)


async def remove(user_id: str, version: int, unit: Unit) -> None:
    """Remove the copy of a user who was deleted in this version, for good."""
    await unit.lock_copy()
    if users.is_news(version, await unit.known_version(user_id)):
        await unit.delete_user(user_id, users.LAST_VERSION)


async def reconcile(store: Store, accounts: Accounts) -> None:
    """Make the copy what auth-service has: every account, and nobody else (R1.134).

    Raises:
        ApiError: 503, database or auth-service did not answer; what was done so far stays.
    """
    # Read first: who is made while the pages are read is told by an event.
    unlisted = set(await store.user_ids())
    seen, last = 0, None
    while page := await accounts.page(last):
        async with store.transaction() as unit:
            await unit.lock_copy()
            await unit.put_users(page)
        last = page[-1].id
        seen += len(page)
        unlisted.difference_update(user.id for user in page)
    for user_id in sorted(unlisted):
        # Asked once more, since the list was not read in one moment.
        if await accounts.find(user_id) is None:
            async with store.transaction() as unit:
                await unit.lock_copy()
                await unit.drop_user(user_id)
    _log.info("copy of users reconciled: %d accounts, %d unlisted", seen, len(unlisted))
