"""What keeps guessers and floods out, met from outside: back-off, lock, and three limiters."""

from __future__ import annotations

import time
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange, header_values
from harness.trial import Trial
from loadtests.engine.measure import EngineFailed, measure
from loadtests.engine.plan import Arrivals, Plan, Request, Schedule
from suites.probes.accounts import PASSWORD
from suites.probes.dependent_operations import told

WRONG = "Wrong-Passw0rd!"
_MOST = 5000  # requests: a general limit beyond that is not looked for
_RATE = 800.0


def try_login(client: httpx.Client, email: str, password: str) -> Exchange:
    """One attempt to log in."""
    form = {"email": email, "password": password}
    return exchange(client, "POST", "/api/auth/login", json=form)


def fail_until_locked(client: httpx.Client, email: str) -> list[str]:
    """Five wrong passwords with their waits, one attempt too early, and the right one at the end.

    As contracted (R1.76–R1.78): 401, 401, too early 429, 401, 401, locked 429, right one 429.
    """
    answers = []

    def attempt(password: str = WRONG) -> None:
        answers.append(str(told(try_login(client, email, password))["answer"]))

    attempt()
    attempt()
    attempt()  # too early: after the second failure a second has to pass
    for wait in (1.0, 2.0, 4.0):  # R1.76
        time.sleep(wait + 0.1)
        attempt()
    attempt(PASSWORD)
    return answers


def run_into_general_limit(trial: Trial) -> dict[str, Any]:
    """Use up one address's requests at the gateway's own port (R1.41).

    Raises:
        CouldNotObserve: no such address, or the engine failed.
    """
    address, gateway = trial.fresh_address(), trial.service("gateway")
    with trial.client(address, base=gateway) as client:
        first = exchange(client, "GET", "/api/payments")
        told_limit = header_values(first, "ratelimit-limit")
        limit = int(told_limit[0]) if told_limit and told_limit[0].isdigit() else 0
        if not 0 < limit <= _MOST:
            return {"address": address, "limit": limit, "refused": told(first)["answer"]}
        plan = Plan(
            origin=gateway,
            addresses=(address,),
            schedule=Schedule(rate=_RATE, seconds=limit / _RATE, arrivals=Arrivals.CONSTANT),
            requests=(
                Request(
                    method="GET", path="/api/payments", group="uncounted", expect_status=(401, 429)
                ),
            ),
            connections=8,
        )
        try:
            measure(plan, trial.evidence.path, "general-limit")
        except EngineFailed as error:
            raise CouldNotObserve(str(error)) from error
        return {"address": address, "limit": limit, "refused": knock(client, "/api/payments")}


def knock(client: httpx.Client, path: str) -> str:
    """What somebody without a token is told."""
    return str(told(exchange(client, "GET", path))["answer"])


def credential_burst(trial: Trial, tries: int) -> dict[str, Any]:
    """As many refreshes with a token that is none as the gateway's own port lets through (R1.43).

    One process is asked, so that what it counts alone can be told from what all count together.

    Raises:
        CouldNotObserve: no fresh address, or no port of the gateway's.
    """
    with trial.client(trial.fresh_address(), base=trial.service("gateway")) as client:
        return _burst(
            lambda: exchange(
                client, "POST", "/api/auth/refresh", json={"refreshToken": "not-a-token"}
            ),
            tries,
        )


def edge_burst(trial: Trial, tries: int) -> dict[str, Any]:
    """As many reads without a token as the edge lets through at once (R5.17).

    Raises:
        CouldNotObserve: no fresh address.
    """
    with trial.client(trial.fresh_address()) as client:
        return _burst(lambda: exchange(client, "GET", "/api/auth/me"), tries)


def _burst(ask: Any, tries: int) -> dict[str, Any]:
    began = time.monotonic()
    answers: dict[str, int] = {}
    let_through: int | None = None
    for number in range(tries):
        answer = str(told(ask())["answer"])
        answers[answer] = answers.get(answer, 0) + 1
        if answer.startswith("429") and let_through is None:
            let_through = number
            seconds = time.monotonic() - began
    if let_through is None:
        let_through, seconds = tries, time.monotonic() - began
    return {"let_through": let_through, "seconds": round(seconds, 3), "answers": answers}
