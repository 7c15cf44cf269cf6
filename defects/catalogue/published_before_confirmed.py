"""The relay marks events as published without waiting for the broker's word."""

from collections.abc import Sequence

from defects.defect import Defect


def _believe_every_publish() -> None:
    from system.platform.events import outbox

    honest = outbox.Relay._publish_window

    async def publish_window(
        self: outbox.Relay, window: Sequence[outbox.Row]
    ) -> tuple[list[outbox.Row], str]:
        await honest(self, window)
        return list(window), ""

    outbox.Relay._publish_window = publish_window  # type: ignore[method-assign] # the defect


DEFECT = Defect(
    id="published-before-confirmed",
    breaks="events written while the broker is away are marked as published and lost",
    noticed_by={"broker-restart": r"during the outage that were lost"},
    patched=("payments",),
    patch=_believe_every_publish,
)
