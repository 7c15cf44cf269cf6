"""Several ways disturbed together: all or none, and all healed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import target
from harness.criterion import Criterion
from harness.probe import CouldNotObserve
from harness.thresholds import Limits
from harness.trial import AddressBook, Trial
from suites.probes import faults

WAYS = (("auth", "rabbitmq"), ("admin", "rabbitmq"))


def _trial(tmp_path: Path, **commands: dict[str, str]) -> Trial:
    """A trial whose target disturbs ways by writing down what it was told."""
    told = tmp_path / "told"

    def of(part: str) -> dict[str, str]:
        say = f"sh -c 'echo $0 >>{told}'"
        return {"cut": f"{say} cut-{part}", "heal": f"{say} heal-{part}"} | commands.get(part, {})

    document: dict[str, Any] = {
        "schema": 1,
        "http": {"origin": "https://localhost:9"},
        "faults": {part: {"rabbitmq": of(part)} for part in ("auth", "admin")},
    }
    made = target.parse(document)
    return Trial(
        Criterion(id="c", area="a", statement="It MUST.", gate="g"),
        made,
        Limits("c", {}, ()),
        profile="quick",
        prefix="trial-x",
        run_folder=tmp_path,
        addresses=AddressBook(made, tmp_path / "addresses.json"),
    )


def _told(tmp_path: Path) -> list[str]:
    return (tmp_path / "told").read_text(encoding="utf-8").split()


def test_a_kind_is_offered_when_every_way_has_it(tmp_path: Path) -> None:
    """One way without it, or an unknown one, and it is not."""
    trial = _trial(tmp_path, admin={"cut": ""})

    assert faults.offered(trial, WAYS[:1], "cut")
    assert not faults.offered(trial, WAYS, "cut")
    assert not faults.offered(trial, WAYS, "lose")
    assert not faults.offered(trial, (("payments", "rabbitmq"),), "cut")


def test_all_are_disturbed_and_all_are_healed(tmp_path: Path) -> None:
    """In force inside the block, ended after it."""
    with faults.on_all(_trial(tmp_path), WAYS, "cut"):
        assert _told(tmp_path) == ["cut-auth", "cut-admin"]

    assert set(_told(tmp_path)[2:]) == {"heal-auth", "heal-admin"}


@pytest.mark.parametrize("broken", ["cut", "heal"])
def test_one_that_fails_leaves_none_disturbed(tmp_path: Path, broken: str) -> None:
    """Neither a fault that cannot be made nor one that cannot be healed keeps the others cut."""
    trial = _trial(tmp_path, admin={broken: "false"})

    with (
        pytest.raises(CouldNotObserve, match=f"fault {broken} admin rabbitmq"),
        faults.on_all(trial, WAYS, "cut"),
    ):
        pass

    assert "heal-auth" in _told(tmp_path)
