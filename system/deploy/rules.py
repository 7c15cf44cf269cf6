"""All rules for an overlay's manifests, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from system.deploy import (
    environment_rules,
    example_secrets,
    network_rules,
    pod_rules,
    schemas,
    wiring_rules,
)
from system.deploy.rendering import Document
from system.deploy.workloads import Finding, of_kind, place

# Made by whoever runs the load (overlays/load says how).
_LOAD_SECRETS = ("load-target",)


def judge(overlay: str, documents: Sequence[Document]) -> list[Finding]:
    """Everything that is wrong with an overlay's rendered documents.

    Args:
        overlay: its name.
        documents: as rendered.
    """
    private = secrets_of(overlay)
    return [*schemas.schemas([*documents, *private]), *held(documents, private)]


def held(documents: Sequence[Document], private: Sequence[Document]) -> list[Finding]:
    """What the rules find, beyond the schemas.

    Args:
        documents: as rendered.
        private: the Secrets that they refer to.
    """
    return [
        *namespaces(documents),
        *pod_rules.probes(documents),
        *pod_rules.room(documents),
        *pod_rules.rights(documents),
        *pod_rules.ending(documents),
        *pod_rules.images(documents),
        *wiring_rules.selectors(documents),
        *wiring_rules.ports(documents),
        *wiring_rules.budgets(documents),
        *wiring_rules.scaling(documents),
        *wiring_rules.references(documents, private),
        *environment_rules.environment(documents, private),
        *network_rules.network(documents),
    ]


def secrets_of(overlay: str) -> list[Document]:
    """The Secrets that an overlay's pods refer to, with values of the right form."""
    if overlay == "load":
        return [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {}}
            for name in _LOAD_SECRETS
        ]
    return example_secrets.secrets()


def namespaces(documents: Sequence[Document]) -> Iterator[Finding]:
    """All in one namespace, which holds its pods to the restricted standard itself."""
    own = list(of_kind(documents, "Namespace"))
    names = {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"}
    if names != {space["metadata"]["name"] for space in own} or len(own) != 1:
        yield Finding("Namespace", f"documents lie in {sorted(map(str, names))}, expected one")
    for space in own:
        if (
            space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            != "restricted"
        ):
            yield Finding(place(space), "does not hold its pods to the restricted standard")
