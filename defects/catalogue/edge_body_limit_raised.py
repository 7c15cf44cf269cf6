"""The edge lets bodies of twenty megabytes through."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="edge-body-limit-raised",
    breaks="the edge passes bodies above its 10 MiB to the gateway",
    noticed_by={"body-limit": r"edge, sized, one byte more: requests the gateway saw"},
    transforms={
        "edge": lambda nginx: replaced(
            nginx, "client_max_body_size 10m;", "client_max_body_size 20m;"
        )
    },
)
