"""What administrators do with users: look at the copy, command auth-service (R1.126-R1.137)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from system.admin.domain.users import LAST_VERSION, Role, User, UserQuery
from system.admin.ports import Accounts, Actor, Store, Unit
from system.admin.service import copies
from system.platform.http import errors
from system.platform.http.errors import ApiError

_log: Final = logging.getLogger(__name__)


class Users:
    """The users as administrators see and change them.

    auth-service owns them.  What it answers to a command goes into the copy at once, so that the
    next read shows it (R1.133); the event that follows finds it there.  The audit row is the
    event's.

    Args:
        store: admin_db.
        accounts: auth-service.
    """

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts

    async def page(self, query: UserQuery) -> tuple[Sequence[User], int]:
        """Return a page of users and their number in all (R1.126)."""
        return await self._store.users(query)

    async def get(self, user_id: str) -> User:
        """Return a user (R1.127).

        Raises:
            ApiError: 404 USER_NOT_FOUND.
        """
        user = await self._store.user(user_id)
        if user is None:
            raise errors.missing("USER_NOT_FOUND", "User not found")
        return user

    async def create(
        self, actor: Actor, *, email: str, password: str, name: str, role: Role
    ) -> User:
        """Make an account (R1.128).

        Raises:
            ApiError: 409 EMAIL_EXISTS; 503.
        """
        made = self._accounts.create(actor, email=email, password=password, name=name, role=role)
        return await self._kept(made)

    async def change(self, actor: Actor, user_id: str, changes: Mapping[str, str]) -> User:
        """Change name or e-mail (R1.129).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 409 EMAIL_ALREADY_EXISTS; 503.
        """
        return await self._kept(self._accounts.change(actor, user_id, changes))

    async def set_role(self, actor: Actor, user_id: str, role: Role) -> User:
        """Give another role (R1.130).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 of R1.135; 503.
        """
        return await self._kept(self._accounts.set_role(actor, user_id, role))

    async def set_active(
        self, actor: Actor, user_id: str, active: bool, reason: str | None
    ) -> User:
        """Suspend, or let in again (R1.131).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 of R1.135; 503.
        """
        return await self._kept(self._accounts.set_active(actor, user_id, active, reason))

    async def delete(self, actor: Actor, user_id: str) -> None:
        """Remove an account (R1.132).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 of R1.135; 503.
        """
        await self._accounts.delete(actor, user_id)
        await self._keep(lambda unit: copies.remove(user_id, LAST_VERSION, unit))

    async def _kept(self, command: Awaitable[User]) -> User:
        user = await command
        await self._keep(lambda unit: copies.put(user, unit))
        return user

    async def _keep(self, change: Callable[[Unit], Awaitable[None]]) -> None:
        try:
            async with self._store.transaction() as unit:
                await change(unit)
        except ApiError:
            # The command is done and cannot be taken back; its event brings the copy up to date.
            _log.warning("the copy of users was not reachable; the event will change it")
