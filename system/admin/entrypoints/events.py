"""Where events reach the admin service (R3.42, R3.43)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from system.admin.adapters.unit import PostgresUnit
from system.admin.domain.audit import AUDITED, Occurrence
from system.admin.service import audit
from system.platform.database import Transaction
from system.platform.events.consumer import Handler
from system.platform.events.envelope import Event


def occurrence(event: Event) -> Occurrence:
    """Return the event in the domain's own words."""
    return Occurrence(
        event_id=event.id,
        type=event.type,
        source=event.source,
        at=datetime.fromisoformat(event.timestamp),
        data=event.data,
        metadata=event.metadata,
    )


async def on_event(event: Event, transaction: Transaction) -> None:
    """Record the event in the transaction of its inbox row."""
    await audit.record(occurrence(event), PostgresUnit(transaction))


EVENT_HANDLERS: Final[Mapping[str, Handler]] = dict.fromkeys(sorted(AUDITED), on_event)
