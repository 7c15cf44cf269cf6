"""All gateways ask for the event queue of one name, which only the first one gets."""

from defects.defect import Defect


def _same_name() -> None:
    from system.gateway.adapters import bridge

    bridge.instance_name = lambda: "shared"


DEFECT = Defect(
    id="gateways-share-a-queue",
    breaks="clients of all gateways but one get no events",
    noticed_by={"websocket-scale-out": r"deliveries"},
    patched=("gateway",),
    patch=_same_name,
    replicas=2,
)
