"""The edge passes on what the client says about its own address."""

from defects.defect import Defect, replaced

DEFECT = Defect(
    id="forwarded-address-believed",
    breaks="a client writes any address it likes into audit log and limits",
    noticed_by={"forwarded-headers": r"audit row, X-(Forwarded-For|Real-IP)"},
    transforms={
        "edge": lambda nginx: replaced(
            replaced(
                nginx,
                "proxy_set_header X-Forwarded-For $remote_addr",
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for",
            ),
            "proxy_set_header X-Real-IP $remote_addr",
            "proxy_set_header X-Real-IP $http_x_real_ip",
        )
    },
)
