"""The one place where the harness meets pytest: options, collection, verdicts, exit code.

It acts only on items below suites/ (its tests/ and checks/ folders apart); other tests in the
same process are none of its business.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from harness import addresses, hooks, run, thresholds
from harness import target as target_module
from harness.criterion import Criterion, Effect
from harness.probe import CouldNotObserve
from harness.progress import ProgressLines
from harness.target import Target, TargetError
from harness.trial import AddressBook, Decided, TimeLimitReached, Trial
from harness.verdict import Outcome, Verdict, Waiver, fold, inconclusive

_OUTSIDE = ("tests", "checks", "probes")  # folders below suites/ that hold no criteria
_SESSION = pytest.StashKey["TrialSession"]()
_OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make the hooks of harness.hooks known."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a trial."""
    group = parser.getgroup("seatrial", "acceptance trial (pytest suites/)")
    group.addoption(
        "--target",
        type=Path,
        metavar="FILE",
        help="target file (TOML); without it the reference platform is started and judged",
    )
    group.addoption(
        "--stack",
        choices=("native", "containers"),
        default="",
        help="how the reference platform is started when there is no --target (default: in "
        "containers if a Docker engine answers, otherwise native, as local processes)",
    )
    group.addoption(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="how many of the gateway and of each service the reference platform has (default: 1)",
    )
    group.addoption(
        "--area",
        action="append",
        default=[],
        metavar="AREA",
        help="only criteria of this area (a folder below suites/); repeat or separate by commas",
    )
    group.addoption(
        "--criterion",
        action="append",
        default=[],
        metavar="ID",
        help="only this criterion; repeat or separate by commas",
    )
    group.addoption(
        "--profile",
        choices=thresholds.PROFILES,
        default="quick",
        help="how long and how often: the gates of suites/thresholds.toml (default: quick)",
    )
    group.addoption(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="other numbers for the gates (default: suites/thresholds.toml)",
    )
    group.addoption(
        "--run-folder",
        type=Path,
        metavar="DIR",
        help="where the run is written (default: reports/runs/<id>)",
    )
    group.addoption(
        "--keep-up",
        action="store_true",
        help="leave the reference platform running after the run",
    )
    group.addoption(
        "--list", action="store_true", help="print the criteria that would run, and stop"
    )
    group.addoption(
        "--dry-run",
        action="store_true",
        help="like --list, with access, effects and time limit of each; contacts nothing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest's own header and counters away when only suites/ is asked for."""
    if config.args and all(Path(arg).resolve().name == "suites" for arg in config.args):
        config.option.verbose = min(config.option.verbose, -2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests of the suites out of a trial; naming their folder runs them."""
    tests = config.rootpath / "suites" / "tests"
    if collection_path != tests:
        return None
    asked = [Path(str(arg).split("::")[0]).resolve() for arg in config.args]
    return None if any(path.is_relative_to(tests) for path in asked) else True


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Gather criteria, select and order them; anything wrong is a usage error (exit 4)."""
    suites = config.rootpath / "suites"
    mine = [item for item in items if _is_mine(item, suites)]
    if not mine:
        return
    criteria: dict[str, Criterion] = {}
    by_criterion: dict[str, list[pytest.Item]] = {}
    for item in mine:
        criterion = _criterion_of(item, suites)
        criteria[criterion.id] = criterion
        by_criterion.setdefault(criterion.id, []).append(item)
    chosen = _chosen(criteria, config)
    order = sorted(
        chosen,
        key=lambda c: (list(Effect).index(c.roughest_effect), c.area, c.id),
    )
    others = [item for item in items if item not in mine]
    kept = [item for criterion in order for item in by_criterion[criterion.id]]
    config.hook.pytest_deselected(items=[item for item in mine if item not in kept])
    items[:] = others + kept
    trial_session = TrialSession(config, order, known=len(criteria))
    config.stash[_SESSION] = trial_session
    _quieten(config)


def _is_mine(item: pytest.Item, suites: Path) -> bool:
    if not item.path.is_relative_to(suites):
        return False
    return item.path.relative_to(suites).parts[0] not in _OUTSIDE


def _criterion_of(item: pytest.Item, suites: Path) -> Criterion:
    module = getattr(item, "module", None)
    criterion = getattr(module, "CRITERION", None)
    place = item.path.relative_to(suites.parent)
    if not isinstance(criterion, Criterion):
        raise pytest.UsageError(
            f"{place} has no CRITERION = Criterion(...); every module below suites/ declares one"
        )
    expected = f"test_{criterion.id.replace('-', '_')}.py"
    if item.path.name != expected or item.path.parent.name != criterion.area:
        raise pytest.UsageError(
            f"{place} declares {criterion.area}/{criterion.id}; expected "
            f"suites/{criterion.area}/{expected}"
        )
    return criterion


def _chosen(criteria: dict[str, Criterion], config: pytest.Config) -> list[Criterion]:
    areas = _split(config.getoption("--area"))
    ids = _split(config.getoption("--criterion"))
    known_areas = {criterion.area for criterion in criteria.values()}
    for asked, known, option in (
        (ids, set(criteria), "--criterion"),
        (areas, known_areas, "--area"),
    ):
        if unknown := [name for name in asked if name not in known]:
            raise pytest.UsageError(
                f"{option} {', '.join(unknown)}: no such one; known: {', '.join(sorted(known))}"
            )
    return [
        criterion
        for criterion in criteria.values()
        if (not areas or criterion.area in areas) and (not ids or criterion.id in ids)
    ]


def _split(values: list[str]) -> list[str]:
    return [name for value in values for name in value.split(",") if name]


def _quieten(config: pytest.Config) -> None:
    """Let pytest's terminal reporter leave the lines to us."""
    config.option.verbose = -2
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.showfspath = False
        reporter._show_progress_info = False  # it has no public switch


class TrialSession:
    """The state of one trial inside a pytest session.

    Args:
        config: pytest's configuration with the trial's options.
        criteria: what will be judged, in order.
        known: how many criteria there are; fewer selected ones make a part of a trial.
    """

    def __init__(self, config: pytest.Config, criteria: list[Criterion], known: int) -> None:
        self.config = config
        self.known = known
        self.criteria = criteria
        self.started = run.timestamp()
        self.entries: dict[str, run.VerdictEntry] = {}
        self.outcomes: dict[str, list[Outcome]] = {criterion.id: [] for criterion in criteria}
        self.target: Target | None = None
        self.target_file: Path | None = config.getoption("--target")
        self.unreachable = ""
        self.run_id = run.new_run_id()
        folder: Path | None = config.getoption("--run-folder")
        self.folder = folder or config.rootpath / "reports" / "runs" / self.run_id
        path: Path = config.getoption("--thresholds") or (
            config.rootpath / "suites" / "thresholds.toml"
        )
        try:
            self.thresholds = thresholds.load(path, config.getoption("--profile"))
        except thresholds.ThresholdsError as error:
            raise pytest.UsageError(str(error)) from error
        self.thresholds_file = path
        self.waivers = _load_waivers(config.rootpath / "suites" / "waivers.toml")
        self.progress = ProgressLines(len(criteria))
        self.lock: run.TargetLock | None = None
        self.addresses: AddressBook | None = None
        self.finished = False

    def load_target(self) -> None:
        """Read or bring up the target, take its lock, begin the run folder.

        Raises:
            pytest.UsageError: the target file is unusable, or another run holds the target.
        """
        if self.target_file is None:
            try:
                self.target_file = self.config.hook.pytest_seatrial_target(
                    config=self.config,
                    stack=self.config.getoption("--stack"),
                    replicas=self.config.getoption("--replicas"),
                    keep_up=self.config.getoption("--keep-up"),
                )
            except CouldNotObserve as error:
                self.unreachable = str(error)
                return
            if self.target_file is None:
                raise pytest.UsageError(
                    "no target: give --target FILE (nothing here starts a platform)"
                )
        try:
            self.target = target_module.load(self.target_file)
            self.lock = run.TargetLock(self.target)
            self.lock.acquire()
        except (TargetError, run.RunLocked) as error:
            raise pytest.UsageError(str(error)) from error
        addresses.use(self.target.addresses.relays)
        memory = self.folder.parent / ".addresses"
        memory.mkdir(parents=True, exist_ok=True)
        self.addresses = AddressBook(self.target, memory / f"{self.lock.digest}.json")

    def trial(self, criterion: Criterion) -> Trial:
        """A trial for one criterion.

        Raises:
            Decided: access, effects or parts decide it before anything is observed.
        """
        if self.target is None or self.addresses is None:
            raise Decided(inconclusive(f"no target to judge: {self.unreachable}"))
        absent = {
            part: reason
            for part in criterion.parts
            if (reason := self.target.absence(part)) is not None
        }
        if absent:
            text = ", ".join(f"{part} ({reason})" for part, reason in absent.items())
            raise Decided(
                Outcome(Verdict.NOT_APPLICABLE, f"declared absent: {text}", absent=absent)
            )
        if forbidden := self.target.forbidden_effects(criterion):
            words = ", ".join(f'"{effect}"' for effect in forbidden)
            raise Decided(
                inconclusive(
                    f"the target is not on loopback and does not allow {words}; "
                    f"add allow = [{words}] to its target file to have this judged"
                )
            )
        if missing := self.target.missing_access(criterion):
            text = "; ".join(f"{need}: {how}" for need, how in missing.items())
            raise Decided(inconclusive(f"the target file does not grant {text}"))
        return Trial(
            criterion,
            self.target,
            self.thresholds.of(criterion.id),
            profile=self.thresholds.profile,
            prefix=f"trial-{self.run_id[-4:]}-{criterion.id}",
            run_folder=self.folder,
            addresses=self.addresses,
            on_progress=self.say,
        )

    def say(self, text: str) -> None:
        """Show progress from inside a test, past pytest's capture."""
        capture: Any = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            self.progress.say(text)

    def conclude(self, criterion: Criterion, seconds: float) -> None:
        """Fold what was kept for a criterion and write the result so far."""
        self.entries[criterion.id] = self._entry(
            criterion, fold(self.outcomes[criterion.id], self.waivers.get(criterion.id)), seconds
        )
        self.progress.end(self.entries[criterion.id])
        self.write(run.EXIT_INCONCLUSIVE)

    def _entry(self, criterion: Criterion, outcome: Outcome, seconds: float) -> run.VerdictEntry:
        given = self.config.getoption("--target")
        parts = ["pytest suites/", f"--criterion {criterion.id}"]
        parts.append(f"--profile {self.thresholds.profile}")
        if given:
            parts.append(f"--target {given}")
        elif (replicas := self.config.getoption("--replicas")) > 1:
            parts.append(f"--replicas {replicas}")
        return run.entry(
            criterion,
            outcome,
            reproduce=" ".join(parts),
            shortened=self.thresholds.of(criterion.id).shortened,
            seconds=seconds,
        )

    def verdicts(self) -> tuple[run.VerdictEntry, ...]:
        """Every criterion's entry, by area; what did not run is inconclusive."""
        not_run = inconclusive("did not run: the trial ended before its turn")
        entries = [self.entries.get(c.id) or self._entry(c, not_run, 0.0) for c in self.criteria]
        return tuple(sorted(entries, key=lambda e: (e.area, e.criterion)))

    def write(self, exit_status: int) -> None:
        """Write verdicts.json as things stand."""
        target = self.target
        self.folder.mkdir(parents=True, exist_ok=True)
        run.write_result(
            self.folder,
            run.RunResult(
                schema_number=run.SCHEMA,
                run=self.run_id,
                target=run.TargetNote(
                    name=target.name if target else "",
                    origin=target.http.origin if target else "",
                    file=str(self.target_file or ""),
                ),
                profile=self.thresholds.profile,
                thresholds=run.ThresholdsNote(
                    file=str(self.thresholds_file), sha256=self.thresholds.digest
                ),
                started=self.started,
                finished=run.timestamp(),
                environment={
                    **run.environment(self.config.rootpath),
                    "criteria selected": f"{len(self.criteria)} of {self.known}",
                    "partial": len(self.criteria) < self.known,
                },
                exit=exit_status,
                verdicts=self.verdicts(),
            ),
        )

    def finish(self, exit_status: int) -> int:
        """Write the final result, let the project render it, and free the target."""
        if self.finished:
            return exit_status
        self.finished = True
        if exit_status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            exit_status = run.exit_code(self.verdicts())
        self.write(exit_status)
        try:
            self.config.hook.pytest_seatrial_finished(config=self.config, run_folder=self.folder)
        except Exception as error:  # the verdicts are safe on disk; say what is missing
            traceback.print_exc()
            sys.stderr.write(f"the run's result could not be rendered or cleaned up: {error}\n")
            exit_status = int(pytest.ExitCode.INTERNAL_ERROR)
        finally:
            addresses.use({})
            if self.lock:
                self.lock.release()
        self.progress.summary(self.verdicts(), exit_status, self.folder)
        return exit_status


def _load_waivers(path: Path) -> dict[str, Waiver]:
    if not path.exists():
        return {}
    try:
        table = msgspec.toml.decode(path.read_bytes(), type=dict[str, list[Waiver]])
    except msgspec.DecodeError as error:
        raise pytest.UsageError(f"{path}: {error}") from error
    return {waiver.criterion: waiver for waiver in table.get("waiver", [])}


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Bring the target up before the first criterion; --list and --dry-run stop here."""
    trial_session = session.config.stash.get(_SESSION, None)
    if trial_session is None:
        return (yield)
    config = session.config
    if config.getoption("--list") or config.getoption("--dry-run"):
        _print_list(trial_session, detailed=config.getoption("--dry-run"))
        config.stash[_SESSION].finished = True
        session.items.clear()
        yield
        return True
    if session.testsfailed:  # collection errors: pytest itself refuses to run
        return (yield)
    with _terminated_like_ctrl_c():
        trial_session.load_target()
        return (yield)


@contextlib.contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM cleans up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_list(trial_session: TrialSession, *, detailed: bool) -> None:
    for criterion in sorted(trial_session.criteria, key=lambda c: (c.area, c.id)):
        sys.stdout.write(f"{criterion.area}/{criterion.id}: {criterion.statement}\n")
        if detailed:
            needs = ", ".join(criterion.needs) or "nothing beyond HTTP"
            effects = ", ".join(criterion.effects)
            sys.stdout.write(
                f"    gate: {criterion.gate}\n    needs: {needs}; effects: {effects}; "
                f"at most {criterion.time_limit:g} s\n"
            )


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Trial:
    """The trial of the module's criterion; decides at once where access or parts are missing."""
    trial_session = request.config.stash.get(_SESSION, None)
    if trial_session is None:
        raise pytest.UsageError("the fixture `trial` works only below suites/")
    made = trial_session.trial(request.module.CRITERION)
    request.node.stash[_OUTCOMES] = made.outcomes
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Begin and conclude a criterion around its tests."""
    trial_session = item.config.stash.get(_SESSION, None)
    criterion = getattr(getattr(item, "module", None), "CRITERION", None)
    if trial_session is None or criterion is None:
        return (yield)
    if not trial_session.outcomes[criterion.id]:
        trial_session.progress.begin(criterion.area, criterion.id)
        item.session.stash[_STARTED] = time.monotonic()
    result = yield
    following = getattr(getattr(nextitem, "module", None), "CRITERION", None)
    if following is not criterion:
        trial_session.conclude(criterion, time.monotonic() - item.session.stash[_STARTED])
    return result


_STARTED = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the hard time limit of the criterion."""
    criterion = getattr(getattr(item, "module", None), "CRITERION", None)
    if item.config.stash.get(_SESSION, None) is None or criterion is None:
        return (yield)

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeLimitReached

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, criterion.time_limit)
    try:
        return (yield)
    except TimeLimitReached:
        raise Decided(
            inconclusive(f"stopped at its hard limit of {criterion.time_limit:g} s")
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the outcome of each test: what it decided, or how it broke."""
    report = yield
    trial_session = item.config.stash.get(_SESSION, None)
    criterion = getattr(getattr(item, "module", None), "CRITERION", None)
    if trial_session is None or criterion is None:
        return report
    kept = trial_session.outcomes[criterion.id]
    decided = item.stash.get(_OUTCOMES, [])
    if call.excinfo is not None:
        outcome = _outcome_of(call.excinfo.value)
        if outcome is not None and outcome not in decided:
            decided.append(outcome)
    if call.when == "call" and not decided:
        decided.append(inconclusive(f"{item.name} decided nothing"))
    if call.when == "teardown" or (call.when == "setup" and call.excinfo is not None):
        kept.extend(outcome for outcome in decided if outcome not in kept)
    item.stash[_OUTCOMES] = decided
    if report.failed and {outcome.verdict for outcome in decided} == {Verdict.NOT_APPLICABLE}:
        # What does not apply did not fail: `--last-failed` must not judge it again.
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, decided[0].reason)
    return report


def _outcome_of(error: BaseException) -> Outcome | None:
    if isinstance(error, Decided):
        return error.outcome
    if isinstance(error, KeyboardInterrupt):
        return None
    text = " ".join(str(error).split())[:500]
    if isinstance(error, AssertionError):
        return Outcome(Verdict.FAIL, text or "an assertion failed", seen=text)
    return inconclusive(f"the test broke: {type(error).__name__}: {text}")


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Keep pytest's dots and tracebacks out of the trial's lines."""
    if config.stash.get(_SESSION, None) is None or not isinstance(report, pytest.TestReport):
        return None
    return "", "", ""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the result whatever happened, and give the trial's own exit code."""
    trial_session = session.config.stash.get(_SESSION, None)
    if trial_session is not None and not trial_session.finished:
        session.exitstatus = trial_session.finish(int(exitstatus))
