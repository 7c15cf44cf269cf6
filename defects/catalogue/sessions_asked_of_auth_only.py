"""A service asks auth-service about each session and never looks at the mirror in Redis."""

from defects.defect import Defect


def _look_nowhere() -> None:
    from system.platform.security import sessions

    async def look(self: sessions._Mirror, session_id: str) -> sessions.SessionState:
        return sessions.SessionState.UNTOLD

    sessions._Mirror.look = look  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="sessions-asked-of-auth-only",
    breaks="payments-service does not work while the database of auth-service is away",
    noticed_by={"database-outage": r"auth stop: others answer: seen .*payments-\w+ 503"},
    patched=("payments",),
    patch=_look_nowhere,
)
