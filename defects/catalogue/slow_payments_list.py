"""Every page of payments takes a fifth of a second longer."""

import asyncio
from typing import Any

from defects.defect import Defect

_SECONDS = 0.2  # the gate is 0.15 s


def _wait_first() -> None:
    from system.payments.service import reading

    prompt = reading.PaymentReads.page

    async def page(self: reading.PaymentReads, *given: Any, **named: Any) -> Any:
        await asyncio.sleep(_SECONDS)
        return await prompt(self, *given, **named)

    reading.PaymentReads.page = page  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="slow-payments-list",
    breaks="a page of payments takes 200 ms longer",
    noticed_by={"api-latency": r"payments-list: seen p95 2\d\d"},
    patched=("payments",),
    patch=_wait_first,
)
