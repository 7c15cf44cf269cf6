"""The Kubernetes Jobs of the load overlay start Locust as it wants to be started.

Their commands and variables are run here as processes, against a stand-in; only what a cluster
gives (names, the mounted target, the time a real run has) is put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.engine.measure import ROOT, process_environment
from loadtests.engine.plan import Arrivals, Plan, Request, Schedule, encode
from loadtests.tests.stand_in import Seen, answer, stand_in

OVERLAY = ROOT / "system/deploy/overlays/load"
WORKERS = 2


def job(file: str) -> dict[str, Any]:
    """The only Job of a file of the overlay."""
    (found,) = (
        document
        for document in yaml.safe_load_all((OVERLAY / file).read_text(encoding="utf-8"))
        if document["kind"] == "Job"
    )
    return dict(found)


def variables() -> dict[str, str]:
    """The overlay's ConfigMap."""
    lines = (OVERLAY / "load.env").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def command(file: str) -> list[str]:
    """A Job's command on this machine."""
    (container,) = job(file)["spec"]["template"]["spec"]["containers"]
    program, *options = container["command"]
    assert program == "locust"
    return [sys.executable, "-m", "locust", *(o.replace("/app", str(ROOT)) for o in options)]


@contextlib.contextmanager
def started(
    argv: list[str], environment: dict[str, str], out: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block."""
    with out.open("wb") as file:
        process = subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=file, stderr=file)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_master_and_workers_run_as_the_jobs_say(tmp_path: Path) -> None:
    """Master and workers find each other, share the load, print the figures and end with 0."""
    told = variables()
    assert int(told["LOCUST_EXPECT_WORKERS"]) == job("workers.yaml")["spec"]["parallelism"]

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer())

    port = str(free_port())
    with stand_in(behave) as server:
        plan = Plan(
            origin=server.origin,
            ca=server.ca,
            schedule=Schedule(rate=20, seconds=5, arrivals=Arrivals.CONSTANT),
            requests=(Request(method="GET", path="/", group="page"),),
            connections=4,
        )
        (tmp_path / "plan").write_bytes(encode(plan))
        environment = {
            **process_environment(),
            **told,
            "HOME": str(tmp_path),
            "SEATRIAL_TARGET": "",
            "SEATRIAL_PLAN": str(tmp_path / "plan"),
            "LOCUST_MASTER_NODE_HOST": "127.0.0.1",
            "LOCUST_MASTER_NODE_PORT": port,
            "LOCUST_MASTER_BIND_PORT": port,
            "LOCUST_EXPECT_WORKERS": str(WORKERS),
            "LOCUST_USERS": "20",
            "LOCUST_SPAWN_RATE": "20",
            "LOCUST_RUN_TIME": "20s",
        }
        assert not {name for name in os.environ if name.startswith("LOCUST_")}
        with contextlib.ExitStack() as stack:
            outputs = [tmp_path / f"worker-{number}" for number in range(WORKERS)]
            workers = [
                stack.enter_context(started(command("workers.yaml"), environment, out))
                for out in outputs
            ]
            done = subprocess.run(
                command("master.yaml"),
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            codes = [worker.wait(60) for worker in workers]
    assert done.returncode == 0, done.stderr[-3000:]
    assert codes == [0] * WORKERS, [out.read_text()[-2000:] for out in outputs]
    (shown,) = json.loads(done.stdout)
    assert shown["name"] == "page"
    assert shown["num_requests"] > 40
    assert shown["num_failures"] == 0


@pytest.mark.parametrize("file", ["master.yaml", "workers.yaml"])
def test_jobs_do_not_start_anew(file: str) -> None:
    """A load that broke off is not begun again half way."""
    assert job(file)["spec"]["backoffLimit"] == 0
    assert job(file)["spec"]["template"]["spec"]["restartPolicy"] == "Never"
