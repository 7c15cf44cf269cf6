"""Readiness reports every dependency as up without asking it."""

from typing import Any

from defects.defect import Defect


def _all_is_well() -> None:
    from system.platform.http import health

    async def ask(self: health.Health, check: Any) -> dict[str, Any]:
        return {"status": "up", "latencyMs": 0}

    health.Health._ask = ask  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="readiness-asks-nobody",
    breaks="payments-service says it is ready whatever it has lost",
    noticed_by={"health-truth": r"payments: (database|redis|rabbitmq): while away"},
    patched=("payments",),
    patch=_all_is_well,
)
