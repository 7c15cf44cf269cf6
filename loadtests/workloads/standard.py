"""The standard mixed workload: journeys of customers and of an admin, request by request.

A customer's journey (three of four): who am I, my payments, one of them, pay, my payments in
another order, my profile, my payments by GraphQL. The admin's journey (one of four): who am I,
three looks into the audit log, three reports. Twenty journeys are under way at any time, and each
place of the schedule takes the next step of one of them, chosen by the seed. Sessions and payments
are made beforehand, so no step waits for another one's answer, and every request has its own place
in the schedule. Steps that the target has no part for are left out.

| group | share |
|---|---|
| auth-me | 4 of 28 |
| payments-list | 6 of 28 |
| payments-detail | 3 of 28 |
| payments-create | 3 of 28 |
| profile | 3 of 28 |
| graphql | 3 of 28 |
| audit-list | 3 of 28 |
| payments-report | 3 of 28 |

Log-ins are apart (`login_plan`): each costs a password hash of about 20 ms CPU, so they have a rate
and a figure of their own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from loadtests.engine.plan import Arrivals, Plan, Request, Schedule
from loadtests.workloads.catalogue import LIST_QUERIES, REPORTED, Catalogue
from loadtests.workloads.population import Population

_T = TypeVar("_T")

UNDER_WAY = 20
CUSTOMERS_OF_FOUR = 3

Journey = list[Request]


def standard_plan(
    population: Population,
    *,
    rate: float,
    seconds: float,
    prefix: str,
    seed: int = 1,
    arrivals: Arrivals = Arrivals.POISSON,
    connections: int = 20,
    max_connections: int = 500,
    timeout: float = 10.0,
) -> Plan:
    """The standard mixed workload as a plan.

    Args:
        population: people with at least two payments each; its ``absent`` groups are left out.
        rate: requests a second.
        seconds: length.
        prefix: begins the descriptions of what is created.
        seed: of the journeys' order and of the Poisson arrivals.
        arrivals, connections, max_connections, timeout: see `Plan`.
    """
    journeys = _Journeys(population, prefix, seed)
    steps = _interleaved(journeys.next, seed)
    places = [next(steps) for _ in range(max(1, round(rate * seconds)))]
    requests, order = distinct(places)
    return Plan(
        origin=population.origin,
        ca=population.ca,
        addresses=population.addresses,
        schedule=Schedule(rate=rate, seconds=seconds, arrivals=arrivals, seed=seed),
        requests=requests,
        order=order,
        connections=connections,
        max_connections=max_connections,
        timeout=timeout,
        journey_steps=journeys.mean_steps,
    )


def login_plan(
    population: Population, *, rate: float, seconds: float, seed: int = 1, timeout: float = 10.0
) -> Plan:
    """Log-ins of the population's people, one after the other, at their own rate."""
    catalogue = Catalogue(population, "")
    return Plan(
        origin=population.origin,
        ca=population.ca,
        addresses=population.addresses,
        schedule=Schedule(rate=rate, seconds=seconds, seed=seed),
        requests=tuple(catalogue.log_in(member) for member in population.members),
        connections=4,
        timeout=timeout,
    )


def mix(plan: Plan) -> dict[str, float]:
    """The share of each group in a plan's order, largest first; printed with every run."""
    order = plan.order or range(len(plan.requests))
    counts = Counter(plan.requests[index].group for index in order)
    total = sum(counts.values())
    return {group: count / total for group, count in counts.most_common()}


def distinct(places: list[Request]) -> tuple[tuple[Request, ...], tuple[int, ...]]:
    """The distinct requests, and the order in which they fill the places."""
    numbers: dict[Request, int] = {}
    order = tuple(numbers.setdefault(request, len(numbers)) for request in places)
    return tuple(numbers), order


class _Journeys:
    """An endless supply of journeys: exactly three customers' to one of the admin."""

    def __init__(self, population: Population, prefix: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._population = population
        self._catalogue = Catalogue(population, prefix)
        self._people = self._in_turns(population.members)
        self._kinds = self._in_turns(self._four())
        self._created = 0

    @property
    def mean_steps(self) -> float:
        """Requests of a journey, on average."""
        kinds = self._four()
        sample = _Journeys(self._population, "", 1)
        return sum(len(sample._of(kind)) for kind in kinds) / len(kinds)

    def next(self) -> Journey:
        """The next journey."""
        return self._of(next(self._kinds))

    def _of(self, kind: str) -> Journey:
        steps = self._customer() if kind == "customer" else self._admin()
        return [step for step in steps if step.group not in self._population.absent]

    def _four(self) -> tuple[str, ...]:
        customers = ("customer",) * CUSTOMERS_OF_FOUR
        return customers if self._population.admin is None else (*customers, "admin")

    def _customer(self) -> Journey:
        member, other = next(self._people), next(self._people)
        if other is member:
            other = next(self._people)
        catalogue, chance = self._catalogue, self._random
        first, second = chance.sample(LIST_QUERIES, 2)
        self._created += 1
        return [
            catalogue.me(member),
            catalogue.payments(member, first),
            catalogue.payment(member, chance.choice(member.payments)),
            # Ten different amounts and descriptions for each pair keep the plan small.
            catalogue.create(member, other, self._created % 10),
            catalogue.payments(member, second),
            catalogue.profile(member),
            catalogue.payments_by_graphql(member),
        ]

    def _admin(self) -> Journey:
        admin = self._population.admin
        assert admin is not None
        about = [self._random.choice(self._population.members) for _ in range(3)]
        return [
            self._catalogue.me(admin),
            *(self._catalogue.audit(admin, member) for member in about),
            *(self._catalogue.report(admin, currency) for currency in REPORTED),
        ]

    def _in_turns(self, things: tuple[_T, ...]) -> Iterator[_T]:
        """Everything once in a shuffled order, then again in another one."""
        while True:
            yield from self._random.sample(things, len(things))


def _interleaved(next_journey: Callable[[], Journey], seed: int) -> Iterator[Request]:
    """Steps of journeys that are under way together, in the order of each journey."""
    chance = random.Random(seed)
    under_way = [next_journey() for _ in range(UNDER_WAY)]
    while True:
        number = chance.randrange(UNDER_WAY)
        yield under_way[number].pop(0)
        if not under_way[number]:
            under_way[number] = next_journey()
