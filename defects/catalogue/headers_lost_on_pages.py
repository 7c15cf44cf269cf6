"""The pages' location gets an add_header of its own, which cancels all inherited headers."""

from defects.defect import Defect, replaced


def _pages_with_a_header_of_their_own(nginx: str) -> str:
    return replaced(nginx, "location / {\n            limit_req", _LOCATION)


_LOCATION = "location / {\n            add_header X-Pages 1 always;\n            limit_req"

DEFECT = Defect(
    id="headers-lost-on-pages",
    breaks="pages carry none of the edge's security headers",
    noticed_by={"security-headers": r"(?i)page"},
    transforms={"edge": _pages_with_a_header_of_their_own},
)
