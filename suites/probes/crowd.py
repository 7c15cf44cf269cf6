"""Many people with open sockets, and what is sent out to them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.probe import CouldNotObserve
from harness.trial import Trial
from loadtests.swarm.control import Swarm, SwarmFailed
from loadtests.swarm.hive import Expectation
from loadtests.swarm.plan import SwarmClient, SwarmPlan
from loadtests.workloads.population import Population, exempt_addresses, settle
from suites.probes import deliveries


@dataclass(frozen=True)
class Crowd:
    """Connected sockets.

    Attributes:
        swarm: holds them.
        population: whose they are, each person's as many as the others'.
        connected: how many were welcomed, and what the others met.
    """

    swarm: Swarm
    population: Population
    connected: dict[str, Any]

    def emit(self, trial: Trial) -> dict[str, dict[str, Any]]:
        """Send broadcasts and targeted events, and wait for them; key → what it was."""
        sent = deliveries.emit(trial, self.population, time.monotonic())
        expectations = [
            Expectation(key=key, users=None if m["users"] is None else tuple(m["users"]))
            for key, m in sent.items()
        ]
        self.swarm.expect(expectations, within=5.0)
        return sent


@contextmanager
def gathered(trial: Trial) -> Iterator[Crowd]:
    """Make people and open their sockets through the edge, as many as the limits say.

    Raises:
        CouldNotObserve: there is no place for sockets, none was welcomed, or the swarm broke.
    """
    limits, target = trial.limits, trial.target
    if not target.http.websocket:
        raise CouldNotObserve("the target file has no http.websocket")
    trial.progress("people are made")
    population = settle(target, prefix=trial.prefix, users=limits["users"], payments_each=0)
    people = population.members
    plan = SwarmPlan(
        url=target.http.websocket,
        ca=target.http.ca,
        addresses=exempt_addresses(target),
        clients=tuple(
            SwarmClient(
                user=people[n % len(people)].user_id, token=people[n % len(people)].access_token
            )
            for n in range(limits["clients"])
        ),
    )
    try:
        with Swarm(plan, trial.evidence.path, "swarm") as swarm:
            trial.progress(f"{limits['clients']} sockets are opened")
            connected = swarm.connect()
            if not connected["welcomed"]:
                raise CouldNotObserve(f"no socket was welcomed: {connected['failed']}")
            yield Crowd(swarm, population, connected)
    except SwarmFailed as error:
        raise CouldNotObserve(str(error)) from error
