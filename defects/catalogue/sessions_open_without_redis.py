"""A service that cannot look a session up in Redis takes it for open."""

from defects.defect import Defect


def _trust_everybody() -> None:
    from system.platform.security import sessions

    look = sessions._Mirror.look

    async def trusting(self: sessions._Mirror, session_id: str) -> sessions.SessionState:
        state = await look(self, session_id)
        away = self._failures > 0 or self._clock() < self._paused_until
        if state is sessions.SessionState.UNTOLD and away:
            return sessions.SessionState.OPEN
        return state

    sessions._Mirror.look = trusting  # type: ignore[method-assign] # that is the defect
    sessions._Mirror.distrusted = property(lambda self: False)  # type: ignore[method-assign, assignment]


DEFECT = Defect(
    id="sessions-open-without-redis",
    breaks="payments-service takes sessions that ended while Redis is away",
    noticed_by={"cache-outage": r"sessions ended meanwhile, payments port: seen \d+ never refused"},
    patched=("payments",),
    patch=_trust_everybody,
)
