"""The plugin: what pytest's session becomes when it is a trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
pytest_plugins = ["harness.pytest_plugin"]
def pytest_seatrial_finished(config, run_folder):
    (run_folder / "rendered").touch()
"""

MODULE = """
import time
from harness.criterion import Access, Criterion, Effect
from harness.tally import Tally
from harness.verdict import Outcome, Verdict

CRITERION = Criterion(id={id!r}, area={area!r}, statement="It MUST hold.", gate="g", {extra})

def judge(evidence, limits):
    tally = Tally(["a"])
    tally.equal("a", evidence["seen"], "good")
    return tally.outcome()

{body}
"""

PASSES = """
def test_it(trial):
    trial.decide(lambda trial: {"seen": "good"}, judge)
"""
FAILS = PASSES.replace('"good"', '"bad"')

Suite = Callable[..., None]
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    """Writes one criterion's file into a small project."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib --disable-plugin-autoload")
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "thresholds.toml").write_text("")

    def write(id: str, body: str = PASSES, area: str = "edge", extra: str = "") -> None:
        folder = pytester.path / "suites" / area
        folder.mkdir(exist_ok=True)
        text = MODULE.format(id=id, area=area, body=body, extra=extra)
        (folder / f"test_{id.replace('-', '_')}.py").write_text(text)

    return write


@pytest.fixture
def trial_run(pytester: pytest.Pytester) -> Run:
    """Runs the trial and gives exit code, result document and terminal text."""
    target = pytester.path / "target.toml"
    target.write_text('schema = 1\n[http]\norigin = "https://localhost:9"\n')

    def execute(*arguments: str, target_text: str = "") -> tuple[int, dict[str, Any], str]:
        if target_text:
            target.write_text(target_text)
        folder = pytester.path / "run"
        done = pytester.runpytest_inprocess(
            "suites", "--target", str(target), "--run-folder", str(folder), *arguments
        )
        path = folder / "verdicts.json"
        document = json.loads(path.read_text()) if path.exists() else {}
        return int(done.ret), document, "\n".join([*done.outlines, *done.errlines])

    return execute


def _verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {entry["criterion"]: entry["verdict"] for entry in document["verdicts"]}


def test_all_passed_is_zero(suite: Suite, trial_run: Run, pytester: pytest.Pytester) -> None:
    """Exit 0, a line per criterion, the result on disk and handed to the project."""
    suite("one")
    suite("two", area="auth")

    code, document, text = trial_run()

    assert code == 0
    assert _verdicts(document) == {"one": "PASS", "two": "PASS"}
    assert [entry["area"] for entry in document["verdicts"]] == ["auth", "edge"]
    assert document["exit"] == 0
    assert "[2/2] edge/one" in text
    assert "2 PASS (exit code 0" in text
    assert (pytester.path / "run" / "rendered").exists()


def test_a_failure_is_one_and_says_how_to_reproduce(suite: Suite, trial_run: Run) -> None:
    """Exit 1; the entry holds seen, expected and a command."""
    suite("one")
    suite("two", FAILS)

    code, document, text = trial_run()

    entry = next(e for e in document["verdicts"] if e["criterion"] == "two")
    assert code == 1
    assert (entry["verdict"], entry["seen"], entry["expected"]) == ("FAIL", "a: bad", "good")
    assert entry["reproduce"].startswith("pytest suites/ --criterion two --profile quick --target ")
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("body", "verdict", "words"),
    [
        ("def test_it(trial): pass", "INCONCLUSIVE", "test_it decided nothing"),
        ("def test_it(trial): assert 1 == 2, 'one is two'", "FAIL", "one is two"),
        ("def test_it(trial): {}['x']", "INCONCLUSIVE", "the test broke: KeyError"),
        ("def test_it(no_such_fixture): pass", "INCONCLUSIVE", "no_such_fixture"),
        ("def test_it():\n    import pytest\n    pytest.skip('later')", "INCONCLUSIVE", "later"),
    ],
)
def test_a_test_that_decides_nothing_is_no_pass(
    suite: Suite, trial_run: Run, body: str, verdict: str, words: str
) -> None:
    """Silence, a crash, a missing fixture and a skip are never a PASS."""
    suite("one", body)

    code, document, _ = trial_run()

    entry = document["verdicts"][0]
    assert entry["verdict"] == verdict
    assert words in entry["reason"]
    assert code == (1 if verdict == "FAIL" else 8)


def test_several_tests_fold_into_one_verdict(suite: Suite, trial_run: Run) -> None:
    """One failing test of two decides the criterion."""
    second = FAILS.replace("test_it", "test_other")
    suite("one", PASSES + second)

    code, document, _ = trial_run()

    assert (code, _verdicts(document)) == (1, {"one": "FAIL"})


def test_an_area_without_a_pass_is_eight(suite: Suite, trial_run: Run) -> None:
    """Not applicable alone shows nothing: exit 8."""
    suite("one")
    suite("two", area="api", extra='parts=("graphql",)')
    target = (
        'schema = 1\n[http]\norigin = "https://localhost:9"\n[parts]\ngraphql = "not built yet"\n'
    )

    code, document, _ = trial_run(target_text=target)

    assert code == 8
    assert _verdicts(document) == {"one": "PASS", "two": "NOT_APPLICABLE"}


def test_a_second_look_is_at_what_did_not_pass(suite: Suite, trial_run: Run) -> None:
    """What passed and what does not apply have no need of it."""
    target = (
        'schema = 1\n[http]\norigin = "https://localhost:9"\n[parts]\ngraphql = "not built yet"\n'
    )
    suite("one")
    suite("two", area="api", extra='parts=("graphql",)')
    suite("three", FAILS)
    suite("four", "def test_it(trial):\n    1 / 0")
    trial_run("-p", "cacheprovider", target_text=target)

    code, document, _ = trial_run("-p", "cacheprovider", "--last-failed")

    assert _verdicts(document) == {"three": "FAIL", "four": "INCONCLUSIVE"}
    assert code == 1


@pytest.mark.parametrize(
    ("extra", "target", "words"),
    [
        ("needs=(Access.AMQP,)", "https://localhost:9", "does not grant amqp: [access.amqp]"),
        ("effects=(Effect.DISRUPTS,)", "https://shop.example", 'add allow = ["disrupts"]'),
    ],
)
def test_missing_access_and_effects_not_allowed_are_inconclusive(
    suite: Suite, trial_run: Run, extra: str, target: str, words: str
) -> None:
    """The reason says what to add to the target file; nothing was contacted."""
    suite("one", extra=extra)

    code, document, _ = trial_run(target_text=f'schema = 1\n[http]\norigin = "{target}"\n')

    assert code == 8
    assert words in document["verdicts"][0]["reason"]


def test_the_time_limit_is_hard(suite: Suite, trial_run: Run) -> None:
    """A criterion that hangs is stopped as inconclusive, and the next one runs."""
    hangs = "def test_it(trial):\n    trial.decide(lambda trial: time.sleep(60), judge)"
    suite("one", hangs, extra="time_limit=0.2")
    suite("two")

    code, document, _ = trial_run()

    assert code == 8
    assert _verdicts(document) == {"one": "INCONCLUSIVE", "two": "PASS"}
    assert "stopped at its hard limit of 0.2 s" in document["verdicts"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (("--area", "auth"), {"two"}),
        (("--criterion", "one"), {"one"}),
        (("--criterion", "one,two"), {"one", "two"}),
        (("--area", "auth", "--area", "edge"), {"one", "two"}),
    ],
)
def test_a_selection_runs_nothing_else(
    suite: Suite, trial_run: Run, arguments: tuple[str, ...], chosen: set[str]
) -> None:
    """Areas and criteria are chosen by name."""
    suite("one")
    suite("two", area="auth")

    _, document, _ = trial_run(*arguments)

    assert set(_verdicts(document)) == chosen
    assert document["environment"]["partial"] is (len(chosen) < 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--area", "nowhere"), "--area nowhere: no such one; known: edge"),
        (("--criterion", "none"), "--criterion none: no such one; known: one"),
        (("--thresholds", "/no/such"), "/no/such cannot be read"),
        (("--target", "/no/such"), "/no/such cannot be used"),
        (("--profile", "fast"), "invalid choice"),
    ],
)
def test_wrong_usage_is_four_and_names_what_there_is(
    suite: Suite, trial_run: Run, arguments: tuple[str, ...], words: str
) -> None:
    """A misspelt name runs nothing."""
    suite("one")

    code, document, text = trial_run(*arguments)

    assert code == 4
    assert words in text
    assert document == {} or _verdicts(document) == {"one": "INCONCLUSIVE"}


def test_a_module_without_a_criterion_is_wrong_usage(
    suite: Suite, trial_run: Run, pytester: pytest.Pytester
) -> None:
    """Every module below suites/ declares what it decides."""
    suite("one")
    (pytester.path / "suites/edge/test_stray.py").write_text("def test_it(): pass\n")

    code, _, text = trial_run()

    assert code == 4
    assert "suites/edge/test_stray.py has no CRITERION" in text


def test_a_criterion_in_the_wrong_file_is_wrong_usage(suite: Suite, trial_run: Run) -> None:
    """File name and folder follow from id and area."""
    suite("one")
    suite("two", extra="")
    path = next(Path.cwd().glob("suites/edge/test_two.py"))
    path.rename(path.with_name("test_three.py"))

    code, _, text = trial_run()

    assert code == 4
    assert "expected suites/edge/test_two.py" in text


def test_list_and_dry_run_contact_nothing(suite: Suite, trial_run: Run) -> None:
    """They print what would run, with access, effects and time."""
    suite("one", extra="needs=(Access.AMQP,), effects=(Effect.WRITES,)")

    listed = trial_run("--list")
    dry = trial_run("--dry-run")

    assert listed[:2] == (0, {})
    assert "edge/one: It MUST hold." in listed[2]
    assert dry[:2] == (0, {})
    assert "needs: amqp; effects: writes; at most 120 s" in dry[2]


def test_reads_come_before_disruption(suite: Suite, trial_run: Run) -> None:
    """The rough criteria run last, so that they disturb nobody."""
    suite("aaa", extra="effects=(Effect.DISRUPTS,)")
    suite("zzz")

    _, _, text = trial_run()

    assert "[1/2] edge/zzz" in text
    assert "[2/2] edge/aaa" in text


def test_progress_is_seen_from_inside_a_test(suite: Suite, trial_run: Run) -> None:
    """pytest's capture does not swallow it."""
    suite("one", PASSES.replace("    trial", "    trial.progress('half way')\n    trial"))

    _, _, text = trial_run()

    assert "half way" in text


def test_a_waiver_counts_as_passed_and_is_shown(
    suite: Suite, trial_run: Run, pytester: pytest.Pytester
) -> None:
    """An accepted failure keeps exit 0 and names its owner; a broken file is wrong usage."""
    suite("one", FAILS)
    waivers = pytester.path / "suites/waivers.toml"
    waivers.write_text('[[waiver]]\ncriterion = "one"\nowner = "ops"\nexpires = 2999-01-01\n')

    code, document, _ = trial_run()
    waivers.write_text("[[waiver]]\n")
    broken, _, text = trial_run()

    assert code == 0
    assert "accepted by ops until 2999-01-01" in document["verdicts"][0]["reason"]
    assert broken == 4
    assert "waivers.toml" in text


def test_tests_outside_suites_are_left_alone(suite: Suite, pytester: pytest.Pytester) -> None:
    """Without criteria the plugin stays silent; its fixture is refused there."""
    pytester.makepyfile(test_plain="def test_it(): pass\ndef test_trial(trial): pass\n")

    done = pytester.runpytest_inprocess("test_plain.py")

    done.assert_outcomes(passed=1, errors=1)
    assert "works only below suites/" in "\n".join(done.outlines)


def test_the_tests_of_the_suites_run_only_when_named(
    suite: Suite, trial_run: Run, pytester: pytest.Pytester
) -> None:
    """A trial does not run suites/tests; naming the folder runs it as ordinary tests."""
    suite("one")
    folder = pytester.path / "suites" / "tests"
    folder.mkdir()
    (folder / "test_judging.py").write_text("def test_it(): pass\n")

    code, document, _ = trial_run()
    named = pytester.runpytest_inprocess("suites/tests")

    assert (code, set(_verdicts(document))) == (0, {"one"})
    named.assert_outcomes(passed=1)


def test_without_a_target_a_project_must_start_one(suite: Suite, pytester: pytest.Pytester) -> None:
    """No --target and nobody to start a platform: wrong usage."""
    suite("one")

    done = pytester.runpytest_inprocess("suites", "--run-folder", str(pytester.path / "run"))

    assert done.ret == 4
    assert "no target: give --target FILE" in "\n".join([*done.outlines, *done.errlines])


def test_a_platform_that_does_not_come_up_is_inconclusive(
    suite: Suite, pytester: pytest.Pytester
) -> None:
    """Every criterion says why nothing could be judged."""
    pytester.makeconftest(
        CONFTEST + "def pytest_seatrial_target(config, stack, replicas, keep_up):\n"
        "    from harness.probe import CouldNotObserve\n"
        "    raise CouldNotObserve(f'{replicas} of each: rabbitmq did not start')\n"
    )
    suite("one")

    done = pytester.runpytest_inprocess(
        "suites", "--replicas", "2", "--run-folder", str(pytester.path / "run")
    )

    document = json.loads((pytester.path / "run/verdicts.json").read_text())
    assert done.ret == 8
    assert "2 of each: rabbitmq did not start" in document["verdicts"][0]["reason"]
    assert document["verdicts"][0]["reproduce"].endswith("--replicas 2")


def test_a_result_that_cannot_be_rendered_is_an_internal_error(
    suite: Suite, trial_run: Run, pytester: pytest.Pytester
) -> None:
    """The verdicts stay on disk, and the exit code is not a pass."""
    pytester.makeconftest(CONFTEST.replace('(run_folder / "rendered").touch()', "1 / 0"))
    suite("one")

    code, document, text = trial_run()

    assert code == 3
    assert _verdicts(document) == {"one": "PASS"}
    assert "could not be rendered" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_still_writes_its_result(
    suite: Suite, pytester: pytest.Pytester, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM: exit 2, what did not run is inconclusive, the project cleans up."""
    suite("one")
    waits = (
        "def test_it(trial):\n    import pathlib\n    pathlib.Path('started').touch()\n"
        "    trial.decide(lambda trial: time.sleep(60), judge)"
    )
    suite("two", waits, extra="effects=(Effect.WRITES,)")
    folder = pytester.path / "run"
    target = pytester.path / "target.toml"
    target.write_text('schema = 1\n[http]\norigin = "https://localhost:9"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "suites", "--target", target, "--run-folder", folder],
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 30
    while not (pytester.path / "started").exists():
        assert time.monotonic() < deadline, "the second criterion never started"
        time.sleep(0.02)
    process.send_signal(number)

    code = process.wait(timeout=30)

    document = json.loads((folder / "verdicts.json").read_text())
    assert code == 2
    assert _verdicts(document) == {"one": "PASS", "two": "INCONCLUSIVE"}
    assert "did not run" in document["verdicts"][1]["reason"]
    assert (folder / "rendered").exists()
