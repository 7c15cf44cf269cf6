"""What auth-service does with the events of its queue (R3.42)."""

from __future__ import annotations

from system.auth.ports import Mirror
from system.platform.database import Transaction
from system.platform.events.consumer import Handler
from system.platform.events.envelope import Event


def handlers(mirror: Mirror) -> dict[str, Handler]:
    """Return the handlers by type; all other types are acknowledged (R3.9)."""

    async def revoked(event: Event, _: Transaction) -> None:
        # The process may have ended between the commit and the write to the mirror.
        await mirror.revoked([event.data["sessionId"]])

    return {"session.revoked": revoked}
