"""The benches: what they read from a target, the arithmetic of their figures, their refusals."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.probe import CouldNotObserve
from harness.target import Addresses, Http, Service, Target
from loadtests.bench import service, usage
from loadtests.bench.__main__ import main
from loadtests.tests.stand_in import Seen, StandIn, answer, stand_in
from loadtests.workloads.population import Member, Population

USER_ID = "11111111-1111-4111-8111-111111111111"
CACHED_US, UNCACHED_US, READING_US = 300, 900, 70_000


class CostlyService:
    """Serves a page of payments; each request, and each reading of its CPU, costs a set amount."""

    def __init__(self, page_status: int = 200, reading_us: int = READING_US) -> None:
        self.used_us = 0
        self.page_status = page_status
        self.reading_us = reading_us

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.path == "/metrics":
            self.used_us += self.reading_us
            text = (
                "# TYPE process_cpu_seconds_total counter\n"
                f"process_cpu_seconds_total {self.used_us / 1e6}\n"
            )
            writer.write(answer(text.encode()))
            return
        fresh = seen.headers.get("cache-control") == "no-cache"
        self.used_us += UNCACHED_US if fresh else CACHED_US
        writer.write(answer(f'{{"id":"{USER_ID}"}}'.encode(), self.page_status))


@contextmanager
def payments(behaviour: CostlyService) -> Iterator[StandIn]:
    """The stand-in that a target names as its payments-service."""
    with stand_in(behaviour) as server:
        yield server


def target_of(origin: str | None) -> Target:
    """A target with this payments-service, or with none."""
    return Target(
        schema=1,
        http=Http(origin="https://localhost:1"),
        addresses=Addresses(exempt=("127.0.0.1",)),
        services={} if origin is None else {"payments": Service(url=origin)},
    )


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench of a second, by somebody who is there already."""
    member = Member(email="a@x.test", password="x", user_id=USER_ID, access_token="token")

    def settled(*_: object, **__: object) -> Population:
        return Population(
            origin="", ca="", addresses=(), members=(member,), admin=None, absent={}, sizes={}
        )

    monkeypatch.setattr(service, "settle", settled)
    monkeypatch.setattr(service, "ROUNDS", 2)
    monkeypatch.setattr(service, "CALM", 40.0)
    monkeypatch.setattr(service, "BUSY", 80.0)
    monkeypatch.setattr(service, "SECONDS", 0.5)


@pytest.mark.usefixtures("short")
def test_a_page_costs_what_the_service_says(capsys: pytest.CaptureFixture[str]) -> None:
    """CPU is divided by the requests that were sent; what reading it costs is no request's."""
    with payments(CostlyService()) as server:
        service.run(target_of(server.origin))

    printed = capsys.readouterr().out
    of = r"µs CPU a request at 80/s"
    assert re.search(
        rf"^cached +300 {of} \(300 – 300; goal 400\), +300 at 40/s; p95 ", printed, re.M
    )
    assert re.search(
        rf"^uncached +900 {of} \(900 – 900; goal 800\), +900 at 40/s; p95 ", printed, re.M
    )
    assert re.search(rf"^only answers +\d+ {of}", printed, re.M)
    assert "uncached / cached: 3.00 times" in printed
    pages = [seen for seen in server.seen if seen.path != "/metrics"]
    assert len(pages) == 2 * 2 * (20 + 40)
    assert {seen.headers["authorization"] for seen in pages} == {"Bearer token"}


@pytest.mark.usefixtures("short")
def test_a_page_that_fails_is_no_measurement() -> None:
    """An error is quick; it must not become a good figure."""
    with (
        payments(CostlyService(page_status=500)) as server,
        pytest.raises(CouldNotObserve, match="cached: 20 requests failed"),
    ):
        service.run(target_of(server.origin))


def test_a_target_without_the_service_cannot_be_measured() -> None:
    """What is missing is named."""
    with pytest.raises(CouldNotObserve, match=r"\[services.payments\]"):
        service.run(target_of(None))


def test_metrics_are_read_by_name() -> None:
    """One sample of a process; without it, or without the process, there is no figure."""
    behaviour = CostlyService(reading_us=0)
    behaviour.used_us = 1_250_000

    with payments(behaviour) as server:
        assert usage.cpu_seconds(server.origin) == 1.25
        with pytest.raises(CouldNotObserve, match="has no process_open_fds"):
            usage.read(server.origin, "process_open_fds")
        origin = server.origin

    with pytest.raises(CouldNotObserve, match="ConnectError"):
        usage.cpu_seconds(origin)


def test_cpu_of_local_processes_is_what_they_burnt() -> None:
    """The sum over processes, as the system counts it."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with (
        subprocess.Popen(
            [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as first,
        subprocess.Popen(
            [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as second,
    ):
        for process in (first, second):
            assert process.stdout is not None
            process.stdout.readline()
        together = usage.cpu_seconds_of([first.pid, second.pid])
        for process in (first, second):
            process.communicate(b"\n")

    # Ticks of 10 ms are cut off, twice for each process; ending takes a little, too.
    assert 0.56 <= together < 2.0


def test_wrong_use_is_told_from_a_target_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 and what is missing; 1 and the reason."""
    with pytest.raises(SystemExit) as ended:
        main(["service"])
    assert ended.value.code == 2
    assert "--target" in capsys.readouterr().err

    assert main(["service", "--target", str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err
