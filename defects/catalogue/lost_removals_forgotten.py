"""A write that cannot tell Redis what it outdated lets the matter rest."""

import contextlib

from defects.defect import Defect


def _let_it_rest() -> None:
    from system.platform.cache import cache
    from system.platform.cache.keys import TAG_TTL_S
    from system.platform.cache.stored import fresh_epoch
    from system.platform.observability.metrics import OTHER

    async def invalidate(self: cache.Cache, tags: tuple[str, ...], once: str | None) -> None:
        with contextlib.suppress(cache._Unavailable):
            await self._run(
                self._scripts.remove,
                [self._generation_key, *(self._tag_prefix + tag for tag in tags)],
                [fresh_epoch(), str(TAG_TTL_S), self._mark_prefix + (once or "")],
                ("invalidate", OTHER),
                self._timeout_s,
            )

    cache.Cache._invalidate = invalidate  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="lost-removals-forgotten",
    breaks="after a Redis that was silent comes back, payments are shown as before the last write",
    noticed_by={"cache-outage": r"pause: payment( list)?, read after the return: seen \S+ \(HIT\)"},
    patched=("payments",),
    patch=_let_it_rest,
)
