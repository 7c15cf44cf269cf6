"""Edge and gateway let twice as many log-ins a minute through."""

from defects.defect import Defect, replaced


def _half_the_wait() -> None:
    from system.gateway.domain import limits

    limits.CREDENTIAL_INTERVAL_S = 3.0  # type: ignore[misc] # that is the defect


DEFECT = Defect(
    id="auth-rate-doubled",
    breaks="a client may try 20 passwords a minute instead of 10",
    noticed_by={"auth-rate-limit": r"rate|/min|interval"},
    patched=("gateway",),
    patch=_half_the_wait,
    transforms={
        "edge": lambda nginx: replaced(
            nginx, "zone=auth:10m rate=10r/m", "zone=auth:10m rate=20r/m"
        )
    },
)
