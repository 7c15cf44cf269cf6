"""The edge passes on the address that a client gives itself."""

from defects.defect import Defect, replaced

_MAP = "map $http_x_forwarded_for $believed { '' $remote_addr; default $http_x_forwarded_for; }"
_ZONE = "    limit_req_zone $limit_key zone=api"  # a place at the level of http


def _believe(nginx: str) -> str:
    return replaced(
        replaced(nginx, _ZONE, f"    {_MAP}\n{_ZONE}"),
        "proxy_set_header X-Forwarded-For $remote_addr",
        "proxy_set_header X-Forwarded-For $believed",
    )


DEFECT = Defect(
    id="forwarded-address-believed",
    breaks="a client writes any address it likes into audit log and limits",
    noticed_by={"forwarded-headers": r"audit row, X-Forwarded-For"},
    transforms={"edge": _believe},
)
