"""A trial: written before judged, confirmed before it is a finding, never decided by a crash."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import target
from harness.criterion import Criterion
from harness.evidence import Evidence
from harness.probe import (
    CouldNotObserve,
    Refusal,
    exchange,
    header_values,
    http_client,
    read_refusal,
    wait_until,
)
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import AddressBook, Decided, TimeLimitReached, Trial
from harness.verdict import Outcome, Verdict

Make = Callable[..., Trial]
CRITERION = Criterion(id="c", area="a", statement="It MUST.", gate="g")


@pytest.fixture
def make_trial(tmp_path: Path) -> Make:
    """Builds a trial over a target document."""

    def make(**changes: Any) -> Trial:
        document = {"schema": 1, "http": {"origin": "https://localhost:9"}, **changes}
        made = target.parse(document)
        return Trial(
            CRITERION,
            made,
            Limits("c", {"expected": 200}, ()),
            profile="quick",
            prefix="trial-x",
            run_folder=tmp_path,
            addresses=AddressBook(made, tmp_path / "addresses.json"),
            on_progress=said.append,
        )

    said: list[str] = []
    return make


@pytest.fixture
def server() -> Iterator[str]:
    """A tiny HTTP server that answers JSON with a repeated header."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": {"code": "NOPE"}}'
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Twice", "1")
            self.send_header("X-Twice", "2")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Peer", self.client_address[0])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def _check(evidence: Evidence, limits: Limits) -> Outcome:
    tally = Tally(["status"])
    tally.equal("status", evidence["status"], limits["expected"])
    return tally.outcome()


def _sees(*statuses: int) -> Callable[[Trial], Mapping[str, Any]]:
    remaining = list(statuses)
    return lambda trial: {"status": remaining.pop(0)}


def test_a_pass_is_kept_with_its_evidence(make_trial: Make, tmp_path: Path) -> None:
    """The outcome names the file it was judged on."""
    trial = make_trial()

    trial.decide(_sees(200), _check)

    assert [o.verdict for o in trial.outcomes] == [Verdict.PASS]
    assert trial.outcomes[0].evidence == ("evidence/c/observation.json",)
    assert (tmp_path / "evidence/c/observation.json").exists()


@pytest.mark.parametrize(
    ("statuses", "confirm", "verdict"),
    [
        ((500, 500), True, Verdict.FAIL),
        ((500, 200), True, Verdict.INCONCLUSIVE),
        ((500,), False, Verdict.FAIL),
    ],
)
def test_a_failure_is_confirmed_by_a_second_look(
    make_trial: Make, statuses: tuple[int, ...], confirm: bool, verdict: Verdict
) -> None:
    """Only what fails twice is a finding (rule 3)."""
    trial = make_trial()

    with pytest.raises(Decided) as caught:
        trial.decide(_sees(*statuses), _check, confirm=confirm)

    assert caught.value.outcome.verdict is verdict
    assert trial.outcomes == [caught.value.outcome]
    assert len(caught.value.outcome.evidence) == len(statuses)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CouldNotObserve("no such port"), "could not observe: no such port"),
        (httpx.ConnectError("refused"), "could not reach the target: ConnectError: refused"),
        (TimeoutError("late"), "could not reach the target: TimeoutError: late"),
        (KeyError("data"), "the probe broke at test_trial.py:"),
    ],
)
def test_a_probe_that_fails_is_inconclusive(make_trial: Make, error: Exception, words: str) -> None:
    """Neither a dead target nor our own crash decides anything."""

    def observe(trial: Trial) -> Mapping[str, Any]:
        raise error

    with pytest.raises(Decided) as caught:
        make_trial().decide(observe, _check)

    assert caught.value.outcome.verdict is Verdict.INCONCLUSIVE
    assert words in caught.value.outcome.reason


def test_a_check_that_breaks_is_inconclusive(make_trial: Make, tmp_path: Path) -> None:
    """A check that cannot read its evidence decides nothing, and its traceback is kept."""
    with pytest.raises(Decided) as caught:
        make_trial().decide(lambda trial: {"other": 1}, _check)

    assert "the check broke on its evidence: KeyError" in caught.value.outcome.reason
    assert (tmp_path / "evidence/c/observation-crash.json").exists()


def test_exempt_addresses_are_counted_through(make_trial: Make) -> None:
    """Single addresses first, then the hosts of networks; running out is told."""
    trial = make_trial(addresses={"exempt": ["127.0.0.2", "127.0.2.0/30"]})

    assert [trial.exempt_address(i) for i in range(3)] == ["127.0.0.2", "127.0.2.1", "127.0.2.2"]
    with pytest.raises(CouldNotObserve, match="grants 3 exempt addresses"):
        trial.exempt_address(3)


def test_fresh_addresses_do_not_repeat_until_all_were_used(make_trial: Make) -> None:
    """The one used longest ago comes next, over runs."""
    trial = make_trial(addresses={"limited": "127.0.3.0/29"})
    first = [trial.fresh_address() for _ in range(6)]

    again = make_trial(addresses={"limited": "127.0.3.0/29"}).fresh_address()

    assert len(set(first)) == 6
    assert again == first[0]


def test_no_limited_network_is_told(make_trial: Make) -> None:
    """A target without limited addresses cannot lend one."""
    with pytest.raises(CouldNotObserve, match="no \\[addresses\\] limited"):
        make_trial().fresh_address()


def test_a_service_not_named_is_told(make_trial: Make) -> None:
    """The error says which table is missing."""
    trial = make_trial(services={"auth": {"url": "http://127.0.0.1:1"}})

    assert trial.service("auth") == "http://127.0.0.1:1"
    with pytest.raises(CouldNotObserve, match=r"no \[services.payments\]"):
        trial.service("payments")


def test_control_runs_the_targets_command(make_trial: Make, tmp_path: Path) -> None:
    """The command of the file is run; a missing, failing or absent one is told."""
    mark = tmp_path / "stopped"
    trial = make_trial(
        control={
            "auth": {
                "stop": f"touch {mark}",
                "start": "sh -c 'echo no >&2; exit 3'",
                "pause": "/no/such/command",
            }
        }
    )

    trial.control("auth", "stop")

    assert mark.exists()
    with pytest.raises(CouldNotObserve, match="auth start ended with 3: no"):
        trial.control("auth", "start")
    with pytest.raises(CouldNotObserve, match="auth pause failed"):
        trial.control("auth", "pause")
    with pytest.raises(CouldNotObserve, match=r"no \[control.auth\] resume"):
        trial.control("auth", "resume")
    with pytest.raises(CouldNotObserve, match=r"no \[control.edge\] stop"):
        trial.control("edge", "stop")


def _faults(told: Path, **changes: str) -> dict[str, Any]:
    """The faults of one way, which write down what they were told."""
    say = f"sh -c 'echo $0 >>{told}'"
    commands = {
        "cut": f"{say} cut",
        "slow": f"{say} 'slow {{milliseconds}}'",
        "heal": f"{say} heal",
    }
    return {"faults": {"auth": {"redis": commands | changes}}}


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, TimeLimitReached])
def test_a_fault_is_healed_however_its_block_ends(
    make_trial: Make, tmp_path: Path, error: type[BaseException] | None
) -> None:
    """In force inside, with the amount in its place; healed after the end, an error, a Ctrl-C."""
    told = tmp_path / "told"
    trial = make_trial(**_faults(told))
    inside = ""

    with contextlib.suppress(*[error] if error else []), trial.fault("auth", "redis", "slow", 250):
        inside = told.read_text()
        if error is not None:
            raise error

    assert inside == "slow 250\n"
    assert told.read_text() == "slow 250\nheal\n"


def test_a_fault_that_fails_is_told_and_healed(make_trial: Make, tmp_path: Path) -> None:
    """What failed half way is mended; one that is not offered changes nothing."""
    told = tmp_path / "told"
    trial = make_trial(**_faults(told, cut="sh -c 'echo no >&2; exit 3'"))

    with (
        pytest.raises(CouldNotObserve, match="fault cut auth redis ended with 3: no"),
        trial.fault("auth", "redis", "cut"),
    ):
        raise AssertionError("the block is not entered")
    assert told.read_text() == "heal\n"

    with (
        pytest.raises(CouldNotObserve, match=r"no \[faults.auth.redis\] lose"),
        trial.fault("auth", "redis", "lose", 5),
    ):
        raise AssertionError("the block is not entered")
    assert told.read_text() == "heal\n"


def test_a_way_that_cannot_be_healed_is_told(make_trial: Make, tmp_path: Path) -> None:
    """Whoever is left disturbed decides nothing."""
    trial = make_trial(**_faults(tmp_path / "told", heal="false"))

    with (
        pytest.raises(CouldNotObserve, match="fault heal auth redis ended with 1"),
        trial.fault("auth", "redis", "cut"),
    ):
        pass


def test_a_terminals_signals_do_not_reach_the_healing(make_trial: Make, tmp_path: Path) -> None:
    """A Ctrl-C goes to everybody of the terminal's session; who heals has one of his own."""
    told = tmp_path / "told"
    trial = make_trial(**_faults(told, heal=f"cp /proc/self/stat {tmp_path}/stat"))

    with trial.fault("auth", "redis", "cut"):
        pass

    session = int((tmp_path / "stat").read_text().rpartition(")")[2].split()[3])
    assert session != os.getsid(0)


def test_a_healing_that_is_interrupted_is_done_again(make_trial: Make, tmp_path: Path) -> None:
    """The time limit, or a Ctrl-C, while it heals leaves nothing disturbed."""
    told = tmp_path / "told"
    once = tmp_path / "once"
    heal = f"sh -c 'echo heal >>{told}; mkdir {once} && kill -ALRM $PPID && exec sleep 20; true'"
    trial = make_trial(**_faults(told, heal=heal))

    def stop(_number: int, _frame: object) -> None:
        raise TimeLimitReached

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(TimeLimitReached), trial.fault("auth", "redis", "cut"):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)

    assert told.read_text() == "cut\nheal\nheal\n"


def test_progress_reaches_the_listener(make_trial: Make) -> None:
    """What a trial says is passed on."""
    said: list[str] = []
    trial = make_trial()
    trial._on_progress = said.append

    trial.progress("half way")

    assert said == ["half way"]


def test_a_client_binds_its_address(make_trial: Make, server: str) -> None:
    """The server sees the exempt address by default, or the one that was asked for."""
    trial = make_trial(addresses={"exempt": ["127.0.0.2"]})

    with trial.client(base=server) as client:
        default = exchange(client, "GET", "/")
    with trial.client("127.0.3.7", base=server) as client:
        asked = exchange(client, "GET", "/")

    assert header_values(default, "X-Peer") == ["127.0.0.2"]
    assert header_values(asked, "x-peer") == ["127.0.3.7"]


def test_an_exchange_writes_down_everything(server: str) -> None:
    """Status, repeated headers in order, parsed body, error code."""
    with http_client(server) as client:
        seen = exchange(client, "GET", "/x?y=1", headers={"A": "b"})

    assert (seen.status, seen.code) == (404, "NOPE")
    assert header_values(seen, "x-twice") == ["1", "2"]
    assert seen["request"] == {
        "method": "GET",
        "url": "/x?y=1",
        "headers": {"A": "b"},
        "body": None,
    }
    assert seen["error"] == ""
    assert 0 < seen["seconds"] < 10


def test_an_exchange_without_an_answer_says_why() -> None:
    """A refused connection is a fact, not an exception."""
    with http_client("http://127.0.0.1:9") as client:
        seen = exchange(client, "POST", "/", content=b"abc")

    assert seen.status == 0
    assert "ConnectError" in seen["error"]
    assert seen.code == ""
    assert seen["request"]["body"] == "3 bytes"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "TOKEN_INVALID", Refusal.REFUSED),
        (401, "UNAUTHORIZED", Refusal.NOT_REFUSED),
        (403, "TOKEN_INVALID", Refusal.NOT_REFUSED),
        (200, "", Refusal.NOT_REFUSED),
        (429, "RATE_LIMIT_EXCEEDED", Refusal.CANNOT_TELL),
        (500, "INTERNAL_ERROR", Refusal.CANNOT_TELL),
        (503, "", Refusal.CANNOT_TELL),
        (0, "", Refusal.CANNOT_TELL),
    ],
)
def test_only_the_contracted_status_and_code_is_a_refusal(
    status: int, code: str, expected: Refusal
) -> None:
    """429, 5xx and silence cannot tell (rule 3)."""
    seen = {"status": status, "json": {"error": {"code": code}}}

    assert read_refusal(seen, 401, ("TOKEN_INVALID",)) is expected


def test_a_contracted_429_is_a_refusal() -> None:
    """Where 429 is the promise it is read as one."""
    seen = {"status": 429, "json": {"error": {"code": "RATE_LIMIT_EXCEEDED"}}}

    assert read_refusal(seen, 429, ("RATE_LIMIT_EXCEEDED",)) is Refusal.REFUSED
    assert read_refusal({"status": 404, "json": None}, 404, ()) is Refusal.REFUSED


def test_waiting_ends_with_what_was_found_or_says_what_was_missed() -> None:
    """The condition's value comes back; a deadline names what it waited for."""
    answers = iter([None, "", "here"])

    assert wait_until(lambda: next(answers), seconds=5, what="it", pause=0) == "here"
    with pytest.raises(CouldNotObserve, match=r"waited 0.01 s for the moon; it did not happen"):
        wait_until(lambda: None, seconds=0.01, what="the moon", pause=0.001)
