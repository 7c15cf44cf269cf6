"""All three retries come after one second."""

from defects.defect import Defect


def _hurry() -> None:
    from system.platform.events import copies

    copies.RETRY_DELAYS_MS = (1_000, 1_000, 1_000)  # type: ignore[attr-defined] # that is the defect


DEFECT = Defect(
    id="retries-without-growth",
    breaks="a failing event is tried again after 1, 1 and 1 s instead of 1, 2 and 4 s",
    noticed_by={"event-retry": r"delay before retry [23]"},
    patched=("payments",),
    patch=_hurry,
)
