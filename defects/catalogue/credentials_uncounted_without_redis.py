"""The gateway counts attempts to log in only as long as Redis counts them."""

from defects.defect import Defect


def _count_nothing() -> None:
    from system.gateway.adapters import limiters
    from system.gateway.domain.limits import Admission

    async def admit(self: limiters.RedisCredentialLimiter, address: str) -> Admission:
        if not self._breaker.open():
            try:
                judged = await self._ask(address)
            except limiters._TROUBLE:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
                return judged
        return Admission(True, 0.0, 0)

    limiters.RedisCredentialLimiter.admit = admit  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="credentials-uncounted-without-redis",
    breaks="with Redis away anybody may try as many passwords as he likes",
    noticed_by={"cache-outage": r"credential limiter: seen \d+ let through"},
    patched=("gateway",),
    patch=_count_nothing,
)
