"""The edge lets twice as many log-ins a minute through."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="auth-rate-doubled",
    breaks="a client may try 20 passwords a minute instead of 10",
    noticed_by={"auth-rate-limit": r"rate|/min|interval"},
    transforms={
        "edge": lambda nginx: replaced(
            nginx, "zone=auth:10m rate=10r/m", "zone=auth:10m rate=20r/m"
        )
    },
)
