"""Every request costs the gateway 12 ms of CPU more: enough at 50 requests/s, too much at 100."""

import time
from typing import Any

from defects.defect import Defect

_SECONDS = 0.012  # 83 requests/s fill a core; 60 % of one are used at the standard rate of 50/s


def _work_first() -> None:
    from system.gateway.entrypoints import http

    prompt = http.HttpEntry.handle

    async def handle(self: http.HttpEntry, request: Any) -> Any:
        ends = time.thread_time() + _SECONDS
        while time.thread_time() < ends:
            pass
        return await prompt(self, request)

    http.HttpEntry.handle = handle  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="gateway-busy",
    breaks="each request costs the gateway 12 ms of CPU more",
    noticed_by={"api-capacity": r"highest rate: seen (\d+ requests/s|no rate met the gate); at "},
    patched=("gateway",),
    patch=_work_first,
)
