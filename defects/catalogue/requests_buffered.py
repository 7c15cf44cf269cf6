"""The edge keeps whole request bodies before it passes them on."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="requests-buffered",
    breaks="an upload reaches its service only when its last byte has arrived at the edge",
    noticed_by={"streaming-proxy": r"request, (sized|chunked)"},
    transforms={
        "edge": lambda nginx: replaced(
            nginx, "proxy_request_buffering off", "proxy_request_buffering on"
        )
    },
)
