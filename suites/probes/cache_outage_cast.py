"""Who takes part when Redis is taken away: entries, sessions, accounts, made beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from harness.probe import CouldNotObserve
from harness.trial import Trial
from suites.probes import accounts, barriers, session_guard
from suites.probes import cached_entries as cached
from suites.probes.accounts import Session
from suites.probes.cached_entries import Entry

PEOPLE_WITH_SESSIONS = 5


@dataclass(frozen=True)
class Cast:
    """Who takes part in one outage.

    Attributes:
        steady: entries that are read and not written, a person's own.
        changing: entries that are written while Redis is away.
        ended_before: sessions logged out before, which every door refused.
        to_end: sessions to be logged out while Redis is away.
        with_socket: a session for a WebSocket; recipient: of its payment.
        bystander: a session that stays.
        locked: address of an account that was locked before.
        to_lock: address of one to be locked meanwhile.
        spent: an address at the general limit, with what the gateway told it.
    """

    steady: tuple[Entry, ...]
    changing: tuple[Entry, ...]
    ended_before: tuple[Session, ...]
    to_end: tuple[Session, ...]
    with_socket: Session
    recipient: Session
    bystander: Session
    locked: str
    to_lock: str
    spent: Mapping[str, Any]


def locked(trial: Trial, email: str) -> list[str]:
    with trial.client(timeout=15) as client:
        return barriers.fail_until_locked(client, email)


def people(trial: Trial, client: httpx.Client, admin: Session, ways: int) -> list[cached.Person]:
    """The first reads only; of the others every fourth may see reports."""
    each = trial.limits["payments_each"] * ways
    return [
        cached.person(trial, client, admin, each, vendor=number % 4 == 0)
        for number in range(trial.limits["people"] + 1)
    ]


def cast(
    trial: Trial,
    client: httpx.Client,
    admin: Session,
    everybody: list[cached.Person],
    kinds: tuple[str, ...],
    turn: int,
    victims: list[str],
    *,
    recipient: Session,
    spent: Mapping[str, Any],
) -> Cast:
    """Everybody for one outage.

    Raises:
        CouldNotObserve: the target refused something of this.
    """
    each = trial.limits["payments_each"]
    mine = slice(turn * each, (turn + 1) * each)
    reader, *writers = everybody
    sessions = session_guard.sessions_of(trial, PEOPLE_WITH_SESSIONS, trial.limits["sessions"] + 1)
    every = trial.limits["sessions"] + 1
    before = tuple(sessions[::every])
    for session in before:
        if accounts.logout(client, session).status != 200:
            raise CouldNotObserve("a session could not be logged out before the outage")
    return Cast(
        steady=tuple(cached.entries(reader, admin, turn, kinds, slice(0, 1))),
        changing=tuple(
            entry for who in writers for entry in cached.entries(who, admin, turn, kinds, mine)
        ),
        ended_before=before,
        to_end=tuple(s for number, s in enumerate(sessions) if number % every),
        with_socket=accounts.register(client, trial.prefix),
        recipient=recipient,
        bystander=accounts.register(client, trial.prefix),
        locked=victims[0],
        to_lock=victims[turn + 1],
        spent=spent,
    )
