"""The edge offers TLS 1.2 suites with CBC and SHA-1, which the profile does not have."""

from defects.defect import Defect, replaced

_WEAK = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"

DEFECT = Defect(
    id="weak-cipher",
    breaks="TLS 1.2 clients may choose a suite with CBC and SHA-1",
    noticed_by={"tls-profile": r"CBC_SHA: seen accepted"},
    transforms={"edge": lambda nginx: replaced(nginx, "ssl_ciphers ", f"ssl_ciphers {_WEAK}")},
)
