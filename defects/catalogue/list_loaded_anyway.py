"""The service looks a page of payments up in the cache, and asks the database all the same."""

from typing import Any

from defects.defect import Defect


def _count_anyway() -> None:
    from system.platform.cache import answers, cache

    trusting = cache.Cache.read

    async def read(self: cache.Cache, entry: Any, load: Any, **named: Any) -> Any:
        answer = await trusting(self, entry, load, **named)
        if entry.cache_type == "payment_list" and answer.outcome is answers.Outcome.HIT:
            await load()
        return answer

    cache.Cache.read = read  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="list-loaded-anyway",
    breaks="a cached page of payments spares the database nothing",
    noticed_by={"cache-speedup": r"payments list"},
    patched=("payments",),
    patch=_count_anyway,
)
