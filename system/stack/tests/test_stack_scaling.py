"""Changing how many of each run: which steps it takes, and that nobody notices them."""

from __future__ import annotations

from pathlib import Path

import pytest

from system.stack import ports, scaling
from system.stack.command_line import main
from system.stack.errors import StackError, UnknownPart
from system.stack.parts import PROGRAMS
from system.stack.scaling import Plan, plan
from system.stack.state import StateFolder


def _ports(replicas: int) -> dict[str, int]:
    return ports.free(ports.names(replicas), usable=lambda _: True, seed=1)


@pytest.mark.parametrize(
    ("before", "wanted", "expected"),
    [
        (
            1,
            {"gateway": 2},
            Plan({"gateway": "gateway-1"}, ("gateway-2",), (), (), {}, "more"),
        ),
        (2, {"gateway": 4}, Plan({}, ("gateway-3", "gateway-4"), (), (), {}, "more")),
        (2, {"gateway": 1}, Plan({}, (), (), ("gateway-2",), {"gateway-1": "gateway"}, "fewer")),
        (2, {"profile": 3}, Plan({}, ("profile-3",), ("gateway-1", "gateway-2"), (), {})),
        (
            3,
            {"auth": 2},
            Plan(
                {},
                (),
                tuple(
                    f"{part}-{number}"
                    for part in ("payments", "admin", "profile", "gateway")
                    for number in (1, 2, 3)
                ),
                ("auth-3",),
                {},
            ),
        ),
        (2, {"gateway": 2, "auth": 2}, Plan({}, (), (), (), {})),
    ],
)
def test_the_steps(before: int, wanted: dict[str, int], expected: Plan) -> None:
    """The edge learns of gateways, callers of services, and nobody of what did not change."""
    assert plan(_ports(before), wanted) == expected


def test_one_of_each_becomes_two() -> None:
    """Those that were there restart one after the other, since by then there are two."""
    seen = plan(_ports(1), dict.fromkeys(PROGRAMS, 2))

    assert seen.started == tuple(f"{part}-2" for part in PROGRAMS)
    assert seen.restarted == ("payments-1", "admin-1", "profile-1", "gateway-1")
    assert seen.edge == "more"


@pytest.mark.parametrize(
    ("before", "wanted", "words"),
    [
        (1, {"auth": 2}, "payments has to restart to learn of the members of auth"),
        (2, {"gateway": 1, "admin": 1}, "gateway has to restart to learn of the members of admin"),
    ],
)
def test_nobody_is_interrupted(before: int, wanted: dict[str, int], words: str) -> None:
    """A caller that is alone cannot restart; nothing is changed."""
    with pytest.raises(StackError, match=words):
        plan(_ports(before), wanted)
    assert plan(_ports(before), wanted, by_name=True).restarted == ()


def test_numbers_are_read_from_words() -> None:
    """Parts that can run several times, and numbers that a machine can bear."""
    assert scaling.wanted(["gateway=3", "auth=1"]) == {"gateway": 3, "auth": 1}
    with pytest.raises(UnknownPart, match="'redis' runs once"):
        scaling.wanted(["redis=2"])
    for text in ("auth=0", "auth=9", "auth=two", "auth"):
        with pytest.raises(StackError, match="expected auth=1 to auth=8"):
            scaling.wanted([text])


def test_a_stack_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made."""
    assert main(["--stack", "never-there", "scale", "gateway=2"]) == 1
    assert "start it with" in capsys.readouterr().err
    assert not StateFolder("never-there").exists()


def test_a_renamed_member_is_the_same_process(tmp_path: Path) -> None:
    """Its record, its pid and its log go along; nothing of the old name is left."""
    state = StateFolder("renamed", project=tmp_path)
    state.create()
    try:
        for folder, name in ((state.path / "run", "auth.pid"), (state.logs, "auth.log")):
            (folder / name).write_text(name)

        state.rename("auth", "auth-1")

        assert state.pid_file("auth-1").read_text() == "auth.pid"
        assert state.log_of("auth-1").read_text() == "auth.log"
        assert not state.pid_file("auth").exists()
        state.forget("auth-1")
        assert not state.pid_file("auth-1").exists()
    finally:
        state.remove()
