"""The bridge sends payment events to every connection."""

from collections.abc import Mapping
from typing import Any

from defects.defect import Defect


def _tell_everybody() -> None:
    from system.gateway.domain import rooms

    discreet = rooms.rooms_of_event

    def rooms_of_event(event_type: str, data: Mapping[str, Any]) -> tuple[str, ...]:
        found = discreet(event_type, data)
        return (*found, rooms.BROADCAST) if event_type.startswith("payment.") else found

    rooms.rooms_of_event = rooms_of_event


DEFECT = Defect(
    id="payment-events-to-everybody",
    breaks="every WebSocket hears of everybody's payments",
    noticed_by={"websocket-capacity": r"deliveries to others"},
    patched=("gateway",),
    patch=_tell_everybody,
)
