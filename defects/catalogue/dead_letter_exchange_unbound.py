"""The dead-letter queue is not bound to its exchange, in the definitions and in the services."""

import json
from collections.abc import Iterator

from defects.defect import Defect
from system.platform.events import topology


def _definitions_without_the_binding(definitions: str) -> str:
    document = json.loads(definitions)
    bindings = document["bindings"]
    kept = [b for b in bindings if b["source"] != topology.DEAD_LETTER_EXCHANGE]
    if len(kept) == len(bindings):
        raise ValueError("the definitions bind no dead-letter exchange; mend the defect")
    document["bindings"] = kept
    return json.dumps(document)


def _declare_without_the_binding() -> None:
    """Services repair the topology when they connect, so they must forget the binding too."""
    declared = topology.Topology.objects

    def objects(
        self: topology.Topology,
    ) -> Iterator[topology.Exchange | topology.Queue | topology.Binding]:
        for entry in declared(self):
            if (
                isinstance(entry, topology.Binding)
                and entry.exchange == topology.DEAD_LETTER_EXCHANGE
            ):
                continue
            yield entry

    topology.Topology.objects = objects  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="dead-letter-exchange-unbound",
    breaks="dead letters reach no queue",
    noticed_by={"dead-letter": r"(?i)dead.?letter|dlq|received", "event-topology": r"events\.dl"},
    patched=("auth", "payments", "admin", "profile", "gateway"),
    patch=_declare_without_the_binding,
    transforms={"rabbitmq": _definitions_without_the_binding},
)
