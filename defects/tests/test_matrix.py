"""The kill matrix and the catalogue: a defect nobody notices is a bug of ours."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from defects import matrix
from defects.__main__ import applied, main
from defects.defect import Defect, UnknownDefect, known, load, replaced
from defects.matrix import Fate, Matrix
from harness import run
from harness.criterion import Criterion
from harness.verdict import Outcome, Verdict
from system.platform.events.topology import DEAD_LETTER_EXCHANGE, topology
from system.stack.native import Override, Stack, StackError

CRITERIA = {
    path.stem.removeprefix("test_").replace("_", "-")
    for path in (Path(__file__).parents[2] / "suites").glob("*/test_*.py")
    if path.parent.name != "tests"
}

DEFECT = Defect(id="d", breaks="something", noticed_by={"one": "limit=5", "two": "x"})


def _entry(id: str, verdict: Verdict, reason: str = "") -> run.VerdictEntry:
    criterion = Criterion(id=id, area="a", statement="It MUST.", gate="g")
    return run.entry(criterion, Outcome(verdict, reason), reproduce="")


@pytest.mark.parametrize(
    ("entries", "fate"),
    [
        ([("one", Verdict.FAIL, "limit=5"), ("two", Verdict.FAIL, "x")], Fate.KILLED),
        ([("one", Verdict.FAIL, "limit=5"), ("two", Verdict.PASS, "")], Fate.KILLED_BY_ANOTHER),
        ([("one", Verdict.FAIL, "other"), ("two", Verdict.FAIL, "x")], Fate.KILLED_BY_ANOTHER),
        ([("one", Verdict.PASS, ""), ("three", Verdict.FAIL, "")], Fate.KILLED_BY_ANOTHER),
        ([("one", Verdict.INCONCLUSIVE, "limit=5"), ("two", Verdict.PASS, "")], Fate.SURVIVED),
        ([], Fate.SURVIVED),
    ],
)
def test_a_defect_is_killed_only_by_the_named_criteria_for_the_stated_reason(
    entries: list[tuple[str, Verdict, str]], fate: Fate
) -> None:
    """A FAIL for another reason, or INCONCLUSIVE, is no kill."""
    row = matrix.judge(DEFECT, [_entry(*entry) for entry in entries])

    assert row.fate is fate


@pytest.mark.parametrize(
    ("before", "after", "fate", "sound"),
    [
        (Verdict.PASS, Verdict.PASS, Fate.KILLED, True),
        (Verdict.INCONCLUSIVE, Verdict.PASS, Fate.KILLED, False),
        (Verdict.PASS, Verdict.FAIL, Fate.KILLED, False),
        (Verdict.PASS, Verdict.PASS, Fate.KILLED_BY_ANOTHER, False),
        (Verdict.PASS, Verdict.PASS, Fate.SURVIVED, False),
        (Verdict.PASS, Verdict.PASS, Fate.NOT_APPLIED, False),
    ],
)
def test_a_matrix_is_sound_only_with_clean_controls(
    before: Verdict, after: Verdict, fate: Fate, sound: bool
) -> None:
    """A false alarm before or after spoils the proof."""
    found = Matrix({"one": before}, {"one": after}, (matrix.Row("d", "b", fate, ()),))

    assert found.sound() is sound
    assert f"d: {fate} (b)" in matrix.as_text(found)


def test_an_empty_matrix_proves_nothing() -> None:
    """No defect, no control: not sound."""
    assert not Matrix({}, {}, ()).sound()
    assert "not judged" in matrix.as_text(Matrix({}, {}, ()))


def test_several_platforms_give_one_matrix() -> None:
    """A criterion that failed on one of them is not made good by the other."""
    row = matrix.Row("d", "b", Fate.KILLED, ())
    one = Matrix({"a": Verdict.PASS}, {"a": Verdict.FAIL}, (row,))
    two = Matrix({"a": Verdict.FAIL, "b": Verdict.PASS}, {"a": Verdict.PASS}, (row,))

    found = matrix.together([one, two])

    assert found.before == {"a": Verdict.FAIL, "b": Verdict.PASS}
    assert found.after == {"a": Verdict.FAIL}
    assert found.rows == (row, row)
    assert not found.sound()


@pytest.mark.parametrize("id", known())
def test_each_defect_names_known_criteria_and_changes_something(id: str) -> None:
    """A defect names criteria that exist, and changes at least one part or database."""
    defect = load(id)

    assert defect.noticed_by
    assert set(defect.noticed_by) <= CRITERIA
    assert defect.overrides() or defect.statements
    assert bool(defect.patched) == (defect.patch is not None)


def test_each_criterion_is_shown_to_fail() -> None:
    """A criterion that no defect must fail is not proven able to fail."""
    noticed = {criterion for id in known() for criterion in load(id).noticed_by}

    assert noticed == CRITERIA


class _RecordingStack(Stack):
    """Writes down what it is told instead of doing it; the first statement may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__(name="recording")
        self.told: list[Any] = []
        self._fails = fails

    def apply(
        self, overrides: Mapping[str, Override], *, touched: set[str] | None = None
    ) -> list[str]:
        self.told.append(dict(overrides))
        return []

    def execute(self, service: str, statement: str) -> None:
        self.told.append((service, statement))
        if self._fails:
            self._fails = False
            raise StackError("no")


@pytest.mark.parametrize("fails", [False, True])
def test_a_defect_is_undone_whatever_happened(fails: bool) -> None:
    """The database is mended and every part runs as designed, also after a failure."""
    stack = _RecordingStack(fails=fails)
    defect = Defect(id="d", breaks="b", noticed_by={"x": ""}, statements={"auth": ("bad", "good")})

    with contextlib.suppress(StackError), applied(stack, defect):
        stack.told.append("trial")

    trial = [] if fails else ["trial"]
    assert stack.told == [{}, ("auth", "bad"), *trial, ("auth", "good"), {}]


def test_an_unknown_defect_names_those_there_are() -> None:
    """A misspelt id runs nothing."""
    with pytest.raises(UnknownDefect, match=r"there are: .*cache-key-without-limit"):
        load("nothing")
    with pytest.raises(SystemExit) as caught:
        main(["--defect", "nothing"])
    assert caught.value.code == 2


def test_the_list_names_each_defect(capsys: pytest.CaptureFixture[str]) -> None:
    """What it breaks and who must notice."""
    assert main(["--list"]) == 0

    text = capsys.readouterr().out
    assert all(id in text for id in known())


def test_a_replacement_that_changes_nothing_is_an_error() -> None:
    """A transformation that misses its place would prove nothing."""
    assert replaced("a b", "b", "c") == "a c"
    with pytest.raises(ValueError, match="mend the defect"):
        replaced("a", "b", "c")


def test_the_wrapper_patches_the_process_it_runs() -> None:
    """Behind the wrapper the topology has lost its dead-letter binding, and only that."""
    program = (
        "import json; from defects.defect import load; "
        "load('dead-letter-exchange-unbound').patch(); "
        "from system.platform.events.topology import Binding, topology; "
        "print(json.dumps([o.exchange for o in topology().objects() if isinstance(o, Binding)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    sources = json.loads(done.stdout)
    assert DEAD_LETTER_EXCHANGE not in sources
    assert len(sources) == len(topology().bindings) - 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--defect", "cache-key-without-limit", "--", "python"], "expected a command with -m"),
        (["--defect", "nothing", "--", "-m", "x"], "no defect 'nothing'"),
        (["--defect", "headers-lost-on-pages", "--", "-m", "x"], "patches no process"),
    ],
)
def test_the_wrapper_refuses_what_it_cannot_run(arguments: list[str], words: str) -> None:
    """Wrong usage exits 2 and says what was expected."""
    done = subprocess.run(
        [sys.executable, "-m", "defects.run", *arguments], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert words in done.stderr
