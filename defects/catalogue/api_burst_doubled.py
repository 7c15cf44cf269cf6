"""The edge lets twice the burst of API requests through."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="api-burst-doubled",
    breaks="an idle client gets 41 API requests through at once instead of 21",
    noticed_by={"api-rate-limit": r"burst|at once"},
    transforms={
        "edge": lambda nginx: replaced(
            nginx, "zone=api burst=20 nodelay", "zone=api burst=40 nodelay"
        )
    },
)
