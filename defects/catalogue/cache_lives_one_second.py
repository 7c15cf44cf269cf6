"""Cached payments live one second instead of a minute."""

import dataclasses
from typing import Any

from defects.defect import Defect


def _forget_soon() -> None:
    from system.platform.cache import cache, keys

    patient = cache.Cache.read

    async def read(self: cache.Cache, entry: keys.Entry, *given: Any, **named: Any) -> Any:
        return await patient(self, dataclasses.replace(entry, ttl_s=1), *given, **named)

    cache.Cache.read = read  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="cache-lives-one-second",
    breaks="entries of the cache live one second, so most reads miss",
    noticed_by={"cache-hit-rate": r"X-Cache: seen \d+ of \d+"},
    patched=("payments", "auth"),
    patch=_forget_soon,
)
