"""The gateway waits twice as long for a silent service as it was told to."""

from defects.defect import Defect

DEFECT = Defect(
    id="upstream-timeout-doubled",
    breaks="a silent service is answered 504 after 6 s instead of 3 s",
    noticed_by={"upstream-errors": r"silent: time: seen 6\.\d\d s"},
    environment={"gateway": {"UPSTREAM_TIMEOUT_MS": "6000"}},
)
