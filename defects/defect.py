"""A defect: one small, deliberate break of the reference platform, applied from outside."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from system.stack.native import Override

CATALOGUE = Path(__file__).parent / "catalogue"


class UnknownDefect(ValueError):
    """No such defect; the text names those there are."""


@dataclass(frozen=True)
class Defect:
    """What is broken, and who must notice.

    Attributes:
        id: kebab-case, the file's name with dashes.
        breaks: one sentence: what is wrong while it is applied.
        noticed_by: criterion → a regular expression its reason must match.
        patched: services whose process runs with `patch` (by the wrapper `defects.run`).
        patch: changes the platform's code in the service's process, before it starts.
        transforms: part → change of its rendered configuration.
        environment: part → variables set or replaced.
        statements: service → SQL that breaks its database, and SQL that mends it.
        replicas: how many of the gateway and of each service the platform must have.
    """

    id: str
    breaks: str
    noticed_by: Mapping[str, str]
    patched: tuple[str, ...] = ()
    patch: Callable[[], None] | None = None
    transforms: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    statements: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    replicas: int = 1

    def overrides(self) -> dict[str, Override]:
        """What the stack applies: wrapped processes, transformed configurations, variables."""
        wrapper = ("python", "-m", "defects.run", "--defect", self.id, "--")
        return {
            part: Override(
                command_prefix=wrapper if part in self.patched else (),
                environment=self.environment.get(part, {}),
                render_transform=self.transforms.get(part),
            )
            for part in sorted({*self.patched, *self.transforms, *self.environment})
        }


def known() -> tuple[str, ...]:
    """The ids of all defects, sorted."""
    return tuple(sorted(path.stem.replace("_", "-") for path in CATALOGUE.glob("[a-z]*.py")))


def load(id: str) -> Defect:
    """The defect with this id.

    Raises:
        UnknownDefect: there is none, or its file declares another id.
    """
    if id not in known():
        raise UnknownDefect(f"no defect {id!r}; there are: {', '.join(known())}")
    module = importlib.import_module(f"defects.catalogue.{id.replace('-', '_')}")
    defect: Defect = module.DEFECT
    if defect.id != id:
        raise UnknownDefect(f"defects/catalogue/{id.replace('-', '_')}.py declares {defect.id!r}")
    return defect


def replaced(text: str, old: str, new: str) -> str:
    """The text with every ``old`` replaced; a defect that changes nothing would prove nothing.

    Raises:
        ValueError: ``old`` does not occur.
    """
    if old not in text:
        raise ValueError(f"the configuration does not contain {old!r}; mend the defect")
    return text.replace(old, new)
