"""A service takes tokens that were made for another audience."""

from typing import Any

from defects.defect import Defect


def _any_audience() -> None:
    from system.platform.security import tokens

    class Anything(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("")

    anything: Any = Anything(tokens.AUDIENCE)
    tokens.AUDIENCE = anything  # type: ignore[misc] # that is the defect


DEFECT = Defect(
    id="audience-not-checked",
    breaks="admin-service takes tokens made for another audience",
    noticed_by={"token-verification": r"admin port.*audience"},
    patched=("admin",),
    patch=_any_audience,
)
