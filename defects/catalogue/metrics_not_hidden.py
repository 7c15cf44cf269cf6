"""The edge forgets that /metrics is hidden and answers it like any page."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="metrics-not-hidden",
    breaks="/metrics is answered at the edge",
    noticed_by={"hidden-paths": r"/metrics"},
    transforms={"edge": lambda nginx: replaced(nginx, "(?:metrics|hmr|", "(?:hmr|")},
)
