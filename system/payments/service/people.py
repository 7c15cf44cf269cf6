"""Knows the users a payment can name: the copy first, auth-service when the copy lacks one."""

from __future__ import annotations

import logging

from system.payments.domain import Person
from system.payments.ports import Directory, DirectoryUnavailable, Store
from system.payments.service import refusals
from system.platform.http import errors

_log = logging.getLogger(__name__)


class People:
    """Finds senders and recipients (R1.112, R2.21).

    Args:
        store: holds the copy.
        directory: asked about users the copy lacks.
    """

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    async def sender(self, user_id: str) -> Person:
        """Return the caller, of whom the copy may not have heard yet.

        Raises:
            ApiError: 401 TOKEN_REVOKED if there is no such user; 503 if nobody can say.
        """
        person = await self._store.person(user_id)
        if person is None:
            person = await self._fetch(user_id=user_id)
        if person is None or person.deleted_at is not None:
            raise errors.token_revoked()
        return person

    async def recipient(self, user_id: str | None, email: str | None) -> Person:
        """Return whom a payment names; at least one is given, the id wins over the e-mail.

        Raises:
            ApiError: 404 RECIPIENT_NOT_FOUND for an unknown, deleted or suspended user; 503 if
                nobody can say.
        """
        person = await self._named(user_id, email)
        if person is None or not person.can_receive:
            raise refusals.recipient_not_found()
        return person

    async def _named(self, user_id: str | None, email: str | None) -> Person | None:
        if user_id is not None:
            return await self._store.person(user_id) or await self._fetch(user_id=user_id)
        assert email is not None, "a payment names its recipient one way or the other"
        return await self._store.person_by_email(email) or await self._fetch(email=email)

    async def _fetch(self, *, user_id: str = "", email: str = "") -> Person | None:
        try:
            if user_id:
                person = await self._directory.find(user_id)
            else:
                person = await self._directory.find_by_email(email)
        except DirectoryUnavailable as unavailable:
            _log.warning("auth-service could not be asked about a user: %s", unavailable)
            raise errors.service_unavailable() from unavailable
        if person is not None:
            async with self._store.transaction() as unit:
                await unit.put_person(person)
        return person
