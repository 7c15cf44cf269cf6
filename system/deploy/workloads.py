"""What the rules ask of rendered documents: workloads, pods, containers, who selects whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from system.deploy.rendering import Document

KINDS: Final = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with an overlay.

    Attributes:
        place: kind and name of the document.
        seen: what is wrong there, with what was expected.
    """

    place: str
    seen: str

    def __str__(self) -> str:
        return f"{self.place}: {self.seen}"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or Job.

    Attributes:
        document: as rendered.
    """

    document: Document

    @property
    def kind(self) -> str:
        """Of the document."""
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        """Of the document."""
        return str(self.document["metadata"]["name"])

    @property
    def place(self) -> str:
        """For findings."""
        return f"{self.kind}/{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """Of its pods."""
        return dict(self.document["spec"]["template"]["metadata"]["labels"])

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's specification."""
        return dict(self.document["spec"]["template"]["spec"])

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, those that run first included."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Container ports by name."""
        return {
            port["name"]: int(port["containerPort"])
            for container in self.containers
            for port in container.get("ports", [])
        }

    def finding(self, seen: str) -> Finding:
        """A finding at this workload."""
        return Finding(self.place, seen)


def of_kind(documents: Sequence[Document], *kinds: str) -> Iterator[Document]:
    """The documents of these kinds."""
    return (document for document in documents if document["kind"] in kinds)


def workloads(documents: Sequence[Document], *kinds: str) -> list[Workload]:
    """The workloads of these kinds, or all."""
    return [Workload(document) for document in of_kind(documents, *(kinds or KINDS))]


def place(document: Document) -> str:
    """Kind and name, for findings."""
    return f"{document['kind']}/{document['metadata']['name']}"


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes pods with these labels; an empty one takes all."""
    pairs = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in pairs.items()):
        return False
    return all(_meets(labels, rule) for rule in selector.get("matchExpressions", []))


def _meets(labels: Mapping[str, str], rule: Mapping[str, Any]) -> bool:
    key, values = rule["key"], rule.get("values", [])
    match rule["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"seen operator {other!r}, expected one of a label selector's")


def bytes_of(quantity: str) -> int:
    """A quantity of memory in bytes."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * units[unit] if unit in units else int(quantity)


def cores_of(quantity: str) -> float:
    """A quantity of CPU in cores."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def named(documents: Iterable[Document]) -> dict[str, Document]:
    """By name."""
    return {document["metadata"]["name"]: document for document in documents}
