"""A service that lost the broker waits ninety seconds before it tries again."""

from defects.defect import Defect

_SECONDS = 90.0


def _wait_long() -> None:
    from system.platform.events import backoff

    def patient(self: backoff.Backoff) -> float:
        return _SECONDS

    backoff.Backoff.next = patient  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="reconnects-too-late",
    breaks="events of payments flow a minute after the broker is back instead of at once",
    noticed_by={"broker-restart": r"flowing again"},
    patched=("payments",),
    patch=_wait_long,
)
