"""A write leaves what is cached as it was."""

from defects.defect import Defect


def _leave_everything() -> None:
    from system.platform.cache import cache

    async def invalidate(self: cache.Cache, *tags: str, once: str | None = None) -> None:
        """Nothing is removed."""

    cache.Cache.invalidate = invalidate  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="cache-never-invalidated",
    breaks="payments are read from the cache as they were before the last write",
    noticed_by={"cache-freshness": r"seen pending, expected processing|payment list"},
    patched=("payments",),
    patch=_leave_everything,
)
