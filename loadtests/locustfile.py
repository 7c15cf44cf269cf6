"""The standard workload in Locust: ``locust -f loadtests --target FILE`` (also ``--headless``).

Locust does users, shapes, web UI, CSV, master and workers; the sending and the timing are the
measuring engine's. Each worker drives one engine process and reports its samples as Locust request
events, so every figure in Locust counts from the moment a request was due.

One Locust user stands for one unit of arrival rate: one journey a second. So ``--users 10`` means
10 journeys a second (about 55 requests a second), whatever the target does, and shapes shape the
rate. The engine takes the rate of all users together; the users themselves only stand there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.runners import MasterRunner

from loadtests.locust_driver import EngineDriver, Source


class Journey(User):
    """One journey a second; the engine makes it."""

    @task
    def stand(self) -> None:
        """Be counted."""
        gevent.sleep(3600)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust's
def _options(parser: Any) -> None:
    parser.add_argument(
        "--target",
        env_var="SEATRIAL_TARGET",
        default="",
        help="target file; people and payments are made there before the first request",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--plan",
        env_var="SEATRIAL_PLAN",
        default="",
        help="a plan prepared by python -m loadtests.workloads, instead of --target",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--samples",
        env_var="SEATRIAL_SAMPLES",
        default="",
        help="folder for the engine's whole samples (.npz); without it they are dropped",
        include_in_web_ui=False,
    )


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust's
def _init(environment: Any, **_: Any) -> None:
    # Loading took a while in which gevent's clock stood still; without this the run time would
    # be shorter by as much.
    gevent.get_hub().loop.update_now()
    if isinstance(environment.runner, MasterRunner):
        return  # workers send; the master only counts
    options = environment.parsed_options
    source = Source(
        target=options.target,
        plan=options.plan,
        samples=Path(options.samples) if options.samples else None,
    )
    driver = EngineDriver(environment, source)
    environment.events.test_start.add_listener(driver.start)
    environment.events.test_stop.add_listener(driver.stop)
    environment.events.quit.add_listener(driver.kill)
    if options.headless:
        # The run time begins right after this; what takes seconds is done before.  A worker's
        # master does not wait for it: the test may start meanwhile.
        driver.prepare()
