"""Ends sessions: events in the transaction, the mirror for the verifiers behind it (R1.32)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from system.auth.domain.accounts import RevokeReason, Session
from system.auth.ports import Mirror, Unit
from system.auth.service import facts


async def emit_revoked(
    unit: Unit,
    closed: Iterable[Session],
    reason: RevokeReason,
    actor_id: str | None,
    now: datetime,
) -> None:
    """Write the event of each session that this transaction closed (R3.31)."""
    for session in closed:
        await unit.emit(facts.session_revoked(session, reason, actor_id, now))


async def revoke_all(
    unit: Unit, user_id: str, reason: RevokeReason, actor_id: str | None, now: datetime
) -> Sequence[Session]:
    """Close every session of a user, with their events."""
    closed = await unit.revoke_all_sessions(user_id, reason, now)
    await emit_revoked(unit, closed, reason, actor_id, now)
    return closed


async def tell_verifiers(mirror: Mirror, closed: Sequence[Session]) -> None:
    """Put closed sessions in force everywhere; after the commit and before the answer."""
    if closed:
        await mirror.revoked([session.id for session in closed])
