"""The read-mostly workload: Zipf over distinct reads, 95 reads to 5 writes, with its ideal hits.

Each person has five distinct reads: the account, two pages of payments, two payments. A hundred
people make 500. All reads, shuffled by the seed, are ranked, and the one at rank k is asked for in
proportion to 1 / k^1.2. One request in twenty creates a payment; who pays and who is paid follow
the same law over the people, independently of who reads. Nothing is warmed up: the first read of
each is a miss and counts.

A payment invalidates every cached payment and page of its two parties (R6.20), so no cache can
reach 100 %: `ideal_hit_share` plays the same sequence against a perfect cache with the contracted
lifetimes, and its figure stands beside the measured one.
"""

from __future__ import annotations

import random
from itertools import accumulate

import msgspec

from loadtests.engine.plan import Plan, Request, Schedule
from loadtests.engine.schedule import due_times
from loadtests.workloads.catalogue import LIST_QUERIES, Catalogue
from loadtests.workloads.population import Population
from loadtests.workloads.standard import distinct

EXPONENT = 1.2
WRITES_OF_TWENTY = 1
USERS = 100
PAYMENTS_EACH = 2

_LIFETIME = {"auth-me": 300.0, "payments-list": 60.0, "payments-detail": 60.0}  # R6.13–R6.15


class ReadMostly(msgspec.Struct, frozen=True, kw_only=True):
    """The workload, and what can be said of it before it runs.

    Attributes:
        plan: watches ``X-Cache``.
        users: people that read.
        distinct_reads: different reads it is drawn from.
        reads, writes: how many of each are scheduled.
        ideal: share of reads that a perfect cache answers.
    """

    plan: Plan
    users: int
    distinct_reads: int
    reads: int
    writes: int
    ideal: float


def read_mostly(
    population: Population,
    *,
    rate: float,
    seconds: float,
    prefix: str,
    seed: int = 1,
    exponent: float = EXPONENT,
    connections: int = 20,
    timeout: float = 10.0,
) -> ReadMostly:
    """Build the workload.

    Args:
        population: people with two payments each.
        rate: requests a second.
        seconds: length.
        prefix: begins the descriptions of what is created.
        seed: of everything that is drawn.
        exponent: of Zipf's law.
        connections, timeout: see `Plan`.
    """
    chance = random.Random(seed)
    catalogue = Catalogue(population, prefix)
    members = list(population.members)
    reads: list[tuple[Request, tuple[int, ...]]] = []  # with the people whose payment ends it
    for number, member in enumerate(members):
        reads.append((catalogue.me(member), ()))
        reads += [(catalogue.payments(member, query), (number,)) for query in LIST_QUERIES[:2]]
        # The payment's recipient is the next person (population.settle).
        parties: tuple[int, ...] = (number, (number + 1) % len(members))
        reads += [(catalogue.payment(member, payment), parties) for payment in member.payments[:2]]
    chance.shuffle(reads)
    payers = chance.sample(range(len(members)), len(members))
    read_weights = _zipf(len(reads), exponent)
    payer_weights = _zipf(len(payers), exponent)
    schedule = Schedule(rate=rate, seconds=seconds, seed=seed)
    due = due_times(schedule).tolist()
    kinds = _kinds(len(due), chance)
    cache = _PerfectCache()
    places: list[Request] = []
    for when, writes in zip(due, kinds, strict=True):
        if writes:
            payer, payee = _two_people(payers, payer_weights, chance)
            places.append(catalogue.create(members[payer], members[payee], len(places) % 10))
            cache.write((payer, payee))
        else:
            request, parties = chance.choices(reads, cum_weights=read_weights)[0]
            places.append(request)
            cache.read(when, request, parties)
    requests, order = distinct(places)
    plan = Plan(
        origin=population.origin,
        ca=population.ca,
        addresses=population.addresses,
        schedule=schedule,
        requests=requests,
        order=order,
        connections=connections,
        timeout=timeout,
        watch_header="x-cache",
    )
    return ReadMostly(
        plan=plan,
        users=len(members),
        distinct_reads=len(reads),
        reads=kinds.count(False),
        writes=kinds.count(True),
        ideal=cache.hit_share,
    )


READ_GROUPS = tuple(_LIFETIME)


def _zipf(count: int, exponent: float) -> list[float]:
    return list(accumulate(1.0 / rank**exponent for rank in range(1, count + 1)))


def _kinds(count: int, chance: random.Random) -> list[bool]:
    """True for writes: exactly one in each twenty, at a place that the seed chooses."""
    kinds: list[bool] = []
    while len(kinds) < count:
        twenty = [True] * WRITES_OF_TWENTY + [False] * (20 - WRITES_OF_TWENTY)
        chance.shuffle(twenty)
        kinds += twenty
    return kinds[:count]


def _two_people(people: list[int], weights: list[float], chance: random.Random) -> tuple[int, int]:
    first = second = chance.choices(people, cum_weights=weights)[0]
    while second == first:
        second = chance.choices(people, cum_weights=weights)[0]
    return first, second


class _PerfectCache:
    """Loses an entry only when it must: at the end of its lifetime, or by a payment of a party."""

    def __init__(self) -> None:
        self._stored: dict[Request, tuple[float, int]] = {}
        self._writes = 0
        self._last_write: dict[int, int] = {}
        self._hits = 0
        self._reads = 0

    @property
    def hit_share(self) -> float:
        """Hits of all reads."""
        return self._hits / self._reads if self._reads else 0.0

    def write(self, parties: tuple[int, ...]) -> None:
        """A payment between these people."""
        self._writes += 1
        for party in parties:
            self._last_write[party] = self._writes

    def read(self, when: float, request: Request, parties: tuple[int, ...]) -> None:
        """A read of an entry that belongs to these people."""
        self._reads += 1
        stored, writes = self._stored.get(request, (-1e9, 0))
        fresh = when - stored < _LIFETIME[request.group]
        valid = all(self._last_write.get(party, 0) <= writes for party in parties)
        if fresh and valid:
            self._hits += 1
        else:
            self._stored[request] = (when, self._writes)
