"""The published schemas of Kubernetes, offline; a field they do not know is a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import kubernetes_validate  # type: ignore[import-untyped]  # ships no types

from system.deploy.rendering import Document
from system.deploy.workloads import Finding, place

VERSION: Final = "1.37"


def schemas(documents: Sequence[Document]) -> Iterator[Finding]:
    """Every document is as the schemas of `VERSION` have it, strictly."""
    for document in documents:
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except kubernetes_validate.ValidationError as refused:
            path = ".".join(str(step) for step in refused.path)
            yield Finding(place(document), f"{path}: {refused.message}")
        except (
            kubernetes_validate.SchemaNotFoundError,
            kubernetes_validate.InvalidSchemaError,
        ) as missing:
            yield Finding(place(document), f"cannot be judged: {missing}")
