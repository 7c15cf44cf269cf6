"""One change of a payment in fifty is committed without its event."""

import itertools
from typing import Any

from defects.defect import Defect

_EVERY = 50


def _forget_some() -> None:
    from system.platform.events import envelope, outbox

    complete, count = outbox.add, itertools.count(1)

    async def add(tx: Any, event: envelope.Event) -> None:
        if event.type.startswith("payment.") and next(count) % _EVERY == 0:
            return
        await complete(tx, event)

    outbox.add = add


DEFECT = Defect(
    id="write-without-event",
    breaks="one payment event in fifty is never written to the outbox",
    noticed_by={"event-delivery": r"events on the exchange for payment\."},
    patched=("payments",),
    patch=_forget_some,
)
