"""The relay marks events as published whatever the broker said of them."""

from collections.abc import Sequence

from defects.defect import Defect


def _believe_every_publish() -> None:
    from system.platform.events import outbox, publisher

    class Believing(publisher.Publisher):
        async def send(self, messages: Sequence[publisher.Outgoing]) -> list[str | None]:
            await super().send(messages)
            return [None] * len(messages)

    outbox.Publisher = Believing  # type: ignore[attr-defined] # that is the defect


DEFECT = Defect(
    id="published-before-confirmed",
    breaks="events on their way when the broker goes down are marked as published and lost",
    noticed_by={"broker-restart": r"that were lost"},
    patched=("payments",),
    patch=_believe_every_publish,
)
