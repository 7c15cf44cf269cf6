"""The redirect to HTTPS drops path and query."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="redirect-loses-query",
    breaks="plain HTTP is sent to the start page, whatever was asked for",
    noticed_by={"https-redirect": r"expected 301 to https://\S+\?"},
    transforms={
        "edge": lambda nginx: replaced(nginx, "$request_uri; }", "/; }").replace(
            "$request_uri;\n", "/;\n"
        )
    },
)
