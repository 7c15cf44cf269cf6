"""What a consumer puts aside, for a retry or as a dead letter, is not written to disk."""

from defects.defect import Defect


def _put_aside_in_memory() -> None:
    from system.platform.events import consumer, copies

    put_aside = consumer.Consumer._publish

    async def publish(self: consumer.Consumer, copied: copies.Copy) -> None:
        copied.properties.delivery_mode = 1
        await put_aside(self, copied)

    consumer.Consumer._publish = publish  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="copies-not-persistent",
    breaks="messages in retry and dead letters do not survive a restart of the broker",
    noticed_by={"broker-restart": r"messages in retry, arrived"},
    patched=("auth", "payments", "admin", "profile"),
    patch=_put_aside_in_memory,
)
