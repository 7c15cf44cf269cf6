"""`python -m system.edge serve`: whom nginx is told to ask."""

from __future__ import annotations

from system.edge.serve import members

NAMES = {"gateway": ["10.0.0.4", "10.0.0.3"], "single": ["10.0.0.9"]}


def lookup(name: str) -> list[str]:
    """A name server that knows two names."""
    return sorted(NAMES.get(name, []))


def test_every_member_of_a_name_is_asked() -> None:
    """A scaled service has an address for each member."""
    assert members(["gateway:3000", "single:3100"], (), lookup) == (
        "10.0.0.3:3000",
        "10.0.0.4:3000",
        "10.0.0.9:3100",
    )


def test_a_member_that_is_gone_is_not_asked() -> None:
    """An address nobody has would cost every request a timeout."""
    before = ("10.0.0.3:3000", "10.0.0.9:3000")

    assert members(["single:3000"], before, lookup) == ("10.0.0.9:3000",)


def test_while_nobody_is_known_the_last_answer_stands() -> None:
    """A restart that keeps its address costs no reload; at first there is one who refuses."""
    assert members(["unknown:3000"], ("10.0.0.3:3000",), lookup) == ("10.0.0.3:3000",)
    assert members(["unknown:3000"], (), lookup) == ("127.0.0.1:1",)
