"""A service goes on trusting a session for half a minute after it last looked."""

from defects.defect import Defect


def _remember_for_long() -> None:
    from system.platform.security import sessions

    sessions.POSITIVE_TTL_S = 30.0  # type: ignore[misc] # that is the defect


DEFECT = Defect(
    id="sessions-remembered-too-long",
    breaks="payments-service takes revoked access tokens for up to 30 s",
    noticed_by={"session-revocation": r"payments port, logout"},
    patched=("payments",),
    patch=_remember_for_long,
)
