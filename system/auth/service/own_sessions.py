"""What users do with their own sessions and devices (R1.86-R1.94)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from system.auth.domain.accounts import RevokeReason, Session
from system.auth.domain.devices import Device, DeviceType
from system.auth.ports import Caller, Mirror, Store, Unit
from system.auth.service.moments import utc_now
from system.auth.service.revoking import emit_revoked, tell_verifiers
from system.platform.http import errors
from system.platform.security.tokens import Claims


class OwnSessions:
    """Lists, names and ends the sessions and devices of the user who calls.

    Args:
        store: auth_db.
        mirror: copy of session states for the verifiers.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(self, store: Store, mirror: Mirror, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._mirror = mirror
        self._now = now

    async def devices(self, claims: Claims) -> tuple[Sequence[Device], str | None]:
        """Return the devices, the latest activity first, and the id of the calling one (R1.88)."""
        found = await self._store.session(claims.session_id)
        devices = await self._store.devices(claims.user_id)
        return devices, found[0].device_id if found is not None else None

    async def sessions(self, claims: Claims) -> Sequence[Session]:
        """Return the open sessions, the latest use first (R1.93)."""
        return await self._store.open_sessions(claims.user_id, self._now())

    async def register_device(
        self,
        claims: Claims,
        device_id: str,
        *,
        name: str | None,
        type: DeviceType | None,
        caller: Caller,
    ) -> Device:
        """Write the device and bind the calling session to it (R1.89).

        Raises:
            ApiError: 401 TOKEN_REVOKED if the calling session was revoked meanwhile.
        """
        now = self._now()
        async with self._store.transaction() as unit:
            await self._own_session(unit, claims, now)
            device = await unit.note_device(
                claims.user_id,
                device_id,
                name=name,
                type=type,
                user_agent=caller.user_agent,
                now=now,
            )
            await unit.bind_session(claims.session_id, claims.user_id, device_id)
        return device

    async def name_device(self, claims: Claims, device_id: str, name: str) -> tuple[Device, bool]:
        """Give a device another name; also says whether it is the calling one (R1.90).

        Raises:
            ApiError: 404 DEVICE_NOT_FOUND; 401 TOKEN_REVOKED as above.
        """
        async with self._store.transaction() as unit:
            own = await self._own_session(unit, claims, self._now())
            device = await unit.name_device(claims.user_id, device_id, name)
        if device is None:
            raise device_not_found()
        return device, own.device_id == device_id

    async def remove_device(self, claims: Claims, device_id: str) -> None:
        """Remove a device and revoke its sessions (R1.91).

        Raises:
            ApiError: 404 DEVICE_NOT_FOUND; 401 TOKEN_REVOKED as above.
        """
        now, reason = self._now(), RevokeReason.DEVICE_REVOKED
        async with self._store.transaction() as unit:
            await self._own_session(unit, claims, now)
            # Closed first: an event of a session names the device it was bound to.
            closed = await unit.revoke_device_sessions(claims.user_id, device_id, reason, now)
            if not await unit.remove_device(claims.user_id, device_id):
                raise device_not_found()
            await emit_revoked(unit, closed, reason, claims.user_id, now)
        await tell_verifiers(self._mirror, closed)

    async def logout_others(self, claims: Claims, device_id: str) -> int:
        """Revoke every other session, remove every other device; return how many sessions (R1.92).

        Raises:
            ApiError: 404 DEVICE_NOT_FOUND if this is not the device of the calling session;
                401 TOKEN_REVOKED as above.
        """
        now, reason = self._now(), RevokeReason.LOGOUT_OTHERS
        async with self._store.transaction() as unit:
            own = await self._own_session(unit, claims, now)
            if own.device_id != device_id:
                raise device_not_found()
            closed = await unit.revoke_all_sessions(claims.user_id, reason, now, but=own.id)
            await unit.remove_other_devices(claims.user_id, device_id)
            await emit_revoked(unit, closed, reason, claims.user_id, now)
        await tell_verifiers(self._mirror, closed)
        return len(closed)

    async def end_session(self, claims: Claims, session_id: str) -> None:
        """Revoke one of the user's sessions, the calling one too (R1.93).

        Raises:
            ApiError: 404 SESSION_NOT_FOUND, for a foreign and for a closed session too.
        """
        now, reason = self._now(), RevokeReason.SESSION_REVOKED
        async with self._store.transaction() as unit:
            await self._own_session(unit, claims, now)
            closed = await unit.revoke_session(session_id, claims.user_id, reason, now)
            if closed is None:
                raise errors.missing("SESSION_NOT_FOUND", "Session not found")
            await emit_revoked(unit, [closed], reason, claims.user_id, now)
        await tell_verifiers(self._mirror, [closed])

    async def _own_session(self, unit: Unit, claims: Claims, now: datetime) -> Session:
        """Hold the user; two of his requests at once then act one after the other."""
        user = await unit.lock_user(claims.user_id)
        session = await unit.lock_session(claims.session_id)
        if user is None or session is None or not session.is_open(now):
            raise errors.token_revoked()
        return session


def device_not_found() -> errors.ApiError:
    """R1.90-R1.92."""
    return errors.missing("DEVICE_NOT_FOUND", "Device not found")
