"""Failed logins in the running platform (R1.75-R1.85)."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from system.auth.service.throttling import PLACES
from system.auth.tests.platform_client import PASSWORD, Client
from system.conftest import RunningStack

pytestmark = pytest.mark.platform

_places = itertools.count(1)


class Guesser:
    """Logs in from loopback addresses of its own, which no other test has used."""

    def __init__(self, stack: RunningStack) -> None:
        self._url = stack.services["auth"] + "/auth/login"
        self._clients: dict[str, httpx.AsyncClient] = {}

    @staticmethod
    def address() -> str:
        number = next(_places)
        return f"127.0.{20 + number // 250}.{1 + number % 250}"

    async def login(
        self, email: str, password: str = "wrong", *, address: str, device: str | None = None
    ) -> httpx.Response:
        if address not in self._clients:
            transport = httpx.AsyncHTTPTransport(local_address=address)
            self._clients[address] = httpx.AsyncClient(transport=transport, timeout=20)
        headers = {"X-Device-ID": device} if device is not None else {}
        body = {"email": email, "password": password}
        return await self._clients[address].post(self._url, json=body, headers=headers)

    async def guess(self, guesses: Sequence[tuple[str, str]]) -> set[str]:
        """Wrong passwords for pairs of e-mail and address; the codes of the answers.

        As many at one time as the service looks at: who waits longer for a place is told 503 on a
        slow machine (R1.14), and his attempt is not counted.
        """
        places = asyncio.Semaphore(PLACES)

        async def one(email: str, address: str) -> str:
            async with places:
                return code(await self.login(email, address=address))

        return set(await asyncio.gather(*(one(*guess) for guess in guesses)))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


@pytest.fixture
async def guesser(stack: RunningStack) -> AsyncIterator[Guesser]:
    made = Guesser(stack)
    yield made
    await made.close()


def code(answer: httpx.Response) -> str:
    return "in" if answer.is_success else str(answer.json()["error"]["code"])


async def nobody() -> str:
    return f"{uuid.uuid4()}@x.test"


async def somebody(client: Client) -> str:
    return str((await client.register())["user"]["email"])


async def events_about(auth_db: Any, email: str) -> list[str]:
    rows = await auth_db.fetch(
        "SELECT event_type FROM outbox WHERE envelope->'data'->>'email' = $1 ORDER BY seq", email
    )
    return [row["event_type"] for row in rows]


async def admin_token(client: Client) -> str:
    account = client.stack.account("admin")
    session = await client.login(account["email"], account["password"])
    return str(session["accessToken"])


async def fifty_failures(guesser: Guesser, email: str) -> list[str]:
    """Guess at an account twice from each of the addresses returned."""
    addresses = [guesser.address() for _ in range(25)]
    for _ in range(2):
        guesses = [(email, address) for address in addresses]
        assert await guesser.guess(guesses) == {"INVALID_CREDENTIALS"}
    return addresses


@pytest.mark.parametrize("known", [True, False])
async def test_r1_78_sequence_of_wrong_passwords(
    client: Client, guesser: Guesser, auth_db: Any, known: bool
) -> None:
    """With the waits kept: 401, 401, 401, 401, 429; then a right password is refused as well."""
    email = await somebody(client) if known else await nobody()
    address = guesser.address()
    seen = []
    for wait in (0.0, 0.0, 1.0, 2.0, 4.0):
        await asyncio.sleep(wait)
        seen.append(await guesser.login(email.upper(), address=address))

    assert [answer.status_code for answer in seen] == [401, 401, 401, 401, 429]
    details = [answer.json()["error"].get("details") for answer in seen]
    assert details[:4] == [None, None, {"remainingAttempts": 2}, {"remainingAttempts": 1}]
    locked = await guesser.login(email, PASSWORD, address=address)
    for answer in (seen[4], locked):
        assert (answer.status_code, code(answer)) == (429, "ACCOUNT_LOCKED")
        told = answer.json()["error"]["details"]
        assert set(told) == {"lockedUntil", "waitSeconds"}
        assert 880 < told["waitSeconds"] <= 900
        assert answer.headers["Retry-After"] == str(told["waitSeconds"])
    elsewhere = await guesser.login(email, PASSWORD, address=guesser.address())
    assert code(elsewhere) == ("in" if known else "INVALID_CREDENTIALS")
    events = await events_about(auth_db, email)
    assert events[known : known + 6] == ["user.login_failed"] * 5 + ["user.locked"]


async def test_r1_76_early_attempt_waits(client: Client, guesser: Guesser) -> None:
    """429 with the seconds to wait, for a right password too; after them it gets in."""
    email, address = await somebody(client), guesser.address()
    for _ in range(2):
        assert code(await guesser.login(email, address=address)) == "INVALID_CREDENTIALS"

    early = await guesser.login(email, PASSWORD, address=address)

    assert (early.status_code, code(early)) == (429, "TOO_MANY_ATTEMPTS")
    error = early.json()["error"]
    assert error["message"] == "Please wait 1 seconds before trying again."
    assert (error["details"], early.headers["Retry-After"]) == ({"waitSeconds": 1}, "1")
    await asyncio.sleep(1.0)
    assert code(await guesser.login(email, PASSWORD, address=address)) == "in"
    after_success = [code(await guesser.login(email, address=address)) for _ in range(3)]
    assert after_success == ["INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS"]


async def test_r1_81_counters_are_exact_under_concurrency(
    client: Client, guesser: Guesser, auth_db: Any
) -> None:
    """Of 20 simultaneous wrong attempts at most 5 are looked at; 20 right ones all get in."""
    email, address = await somebody(client), guesser.address()
    right = await asyncio.gather(
        *(guesser.login(email, PASSWORD, address=address) for _ in range(20))
    )
    assert Counter(code(answer) for answer in right) == {"in": 20}

    wrong = await asyncio.gather(*(guesser.login(email, address=address) for _ in range(20)))

    seen = Counter(code(answer) for answer in wrong)
    assert set(seen) <= {"INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS", "ACCOUNT_LOCKED"}
    assert 1 <= seen["INVALID_CREDENTIALS"] <= 5
    failed = (await events_about(auth_db, email)).count("user.login_failed")
    shown = await client.send(
        "auth", "GET", f"/auth/admin/lockout/{email}", await admin_token(client)
    )
    counted = shown.json()["data"]["failedAttempts"]
    assert failed == counted == seen["INVALID_CREDENTIALS"]


async def test_r1_79_guarded_account_admits_known_clients(
    client: Client, guesser: Guesser, auth_db: Any
) -> None:
    """After 50 failures from many addresses only a known address or device gets in."""
    email, known = await somebody(client), guesser.address()
    device = f"device-{uuid.uuid4()}"
    assert code(await guesser.login(email, PASSWORD, address=known)) == "in"
    first = guesser.address()
    assert code(await guesser.login(email, PASSWORD, address=first, device=device)) == "in"
    await fifty_failures(guesser, email)

    stranger = await guesser.login(email, PASSWORD, address=guesser.address())

    assert (stranger.status_code, code(stranger)) == (429, "ACCOUNT_LOCKED")
    assert code(await guesser.login(email, PASSWORD, address=known)) == "in"
    new_place = guesser.address()
    assert code(await guesser.login(email, PASSWORD, address=new_place, device=device)) == "in"
    events = await events_about(auth_db, email)
    assert (events.count("user.login_failed"), events.count("user.locked")) == (50, 1)


async def test_r1_80_guessing_over_many_accounts_stops_the_address(
    client: Client, guesser: Guesser
) -> None:
    """After 50 failures an address waits 15 min, whatever the account; exempt ones do not."""
    email, address = await somebody(client), guesser.address()
    exempt = client.stack.target["addresses"]["exempt"][0]
    for source in (address, exempt):
        guesses = [(await nobody(), source) for _ in range(50)]
        assert await guesser.guess(guesses) == {"INVALID_CREDENTIALS"}

    stopped = await guesser.login(email, PASSWORD, address=address)

    assert (stopped.status_code, code(stopped)) == (429, "TOO_MANY_ATTEMPTS")
    assert 880 < stopped.json()["error"]["details"]["waitSeconds"] <= 900
    assert code(await guesser.login(email, PASSWORD, address=exempt)) == "in"
    assert code(await guesser.login(email, PASSWORD, address=guesser.address())) == "in"


async def test_r1_77_lock_ends_after_its_time(
    client: Client, guesser: Guesser, auth_db: Any
) -> None:
    """When the quarter of an hour is over the pair may try, and counting begins anew."""
    email, address = await somebody(client), guesser.address()
    for wait in (0.0, 0.0, 1.0, 2.0, 4.0):
        await asyncio.sleep(wait)
        last = await guesser.login(email, address=address)
    assert code(last) == "ACCOUNT_LOCKED"
    # The clock of the platform cannot be moved, so the lock is moved into the past.
    moved = await auth_db.execute(
        """UPDATE login_throttles SET first_failure_at = first_failure_at - interval '15 min',
                  last_failure_at = last_failure_at - interval '15 min',
                  locked_until = locked_until - interval '15 min'
           WHERE key IN (SELECT pair_key FROM login_throttle_pairs p
                         JOIN login_throttles t ON t.key = p.pair_key
                         WHERE t.locked_until > now() AND t.scope = 'pair')"""
    )
    assert moved != "UPDATE 0"

    assert code(await guesser.login(email, address=address)) == "INVALID_CREDENTIALS"
    assert code(await guesser.login(email, PASSWORD, address=address)) == "in"


async def test_r1_75_a_pair_is_a_lower_cased_address_and_a_client(
    client: Client, guesser: Guesser
) -> None:
    """Spellings count together, clients do not, and an account that is none counts alike."""
    for email in (await somebody(client), await nobody()):
        address, other = guesser.address(), guesser.address()
        spellings = (email.upper(), f" {email.title()} ", email)
        seen = [code(await guesser.login(spelling, address=address)) for spelling in spellings]
        assert seen == ["INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS"]
        elsewhere = [code(await guesser.login(email, address=other)) for _ in range(3)]
        assert elsewhere == seen


@pytest.mark.parametrize("known", [True, False])
async def test_r1_75_r1_83_r1_84_a_guard_is_shown_and_ended(
    client: Client, guesser: Guesser, known: bool
) -> None:
    """After 50 failures, whether there is such an account or not; unlocking clears all counters."""
    email = await somebody(client) if known else await nobody()
    token = await admin_token(client)
    addresses = await fifty_failures(guesser, email)
    stranger = await guesser.login(email, address=guesser.address())
    assert (stranger.status_code, code(stranger)) == (429, "ACCOUNT_LOCKED")
    show = f"/auth/admin/lockout/{email}"
    shown = (await client.send("auth", "GET", show, token)).json()["data"]
    assert (shown["isLocked"], shown["lockout"]["failedAttempts"]) == (True, 50)

    done = await client.send("auth", "POST", f"/auth/admin/unlock/{email.upper()}", token)

    assert done.json()["data"] == {"message": f"Account {email} has been unlocked"}
    cleared = (await client.send("auth", "GET", show, token)).json()["data"]
    assert cleared == {"email": email, "isLocked": False, "failedAttempts": 0, "lockout": None}
    # Nobody is a stranger now, and the next failure of a pair that had failed twice is its first.
    password, wanted = (PASSWORD, "in") if known else ("wrong", "INVALID_CREDENTIALS")
    assert code(await guesser.login(email, password, address=guesser.address())) == wanted
    assert code(await guesser.login(email, address=addresses[0])) == "INVALID_CREDENTIALS"
    assert code(await guesser.login(email, password, address=addresses[0])) == wanted


async def test_r1_83_r1_84_lockout_is_shown_and_ended(
    client: Client, guesser: Guesser, auth_db: Any
) -> None:
    """ADMIN sees the lock and ends it; the event names him; the pair may try at once."""
    email, address = await somebody(client), guesser.address()
    token = await admin_token(client)
    show, unlock = f"/auth/admin/lockout/{email.upper()}", f"/auth/admin/unlock/{email}"

    async def shown() -> Any:
        return (await client.send("auth", "GET", show, token)).json()["data"]

    clear = {"email": email, "isLocked": False, "failedAttempts": 0, "lockout": None}
    assert await shown() == clear
    for wait in (0.0, 0.0, 1.0, 2.0, 4.0):
        await asyncio.sleep(wait)
        await guesser.login(email, address=address)
    locked = await shown()
    assert (locked["isLocked"], locked["failedAttempts"]) == (True, 5)
    assert set(locked["lockout"]) == {"lockedAt", "unlockAt", "reason", "failedAttempts"}

    answer = await client.send("auth", "POST", unlock, token)

    assert answer.json()["data"] == {"message": f"Account {email} has been unlocked"}
    assert await shown() == clear
    assert code(await guesser.login(email, PASSWORD, address=address)) == "in"
    actor = await auth_db.fetchval(
        """SELECT envelope->'metadata'->>'actorId' FROM outbox
           WHERE event_type = 'user.unlocked' AND envelope->'data'->>'email' = $1""",
        email,
    )
    admin_email = client.stack.account("admin")["email"]
    assert actor == await auth_db.fetchval("SELECT id FROM users WHERE email = $1", admin_email)


async def test_r1_85_lockout_administration_is_for_admins(client: Client) -> None:
    """Any other role 403, for the own address too; what is no address 400."""
    account, token = await client.register(), await admin_token(client)
    for method, path in (("GET", "lockout"), ("POST", "unlock")):
        path = f"/auth/admin/{path}/"
        own = await client.send(
            "auth", method, path + account["user"]["email"], account["accessToken"]
        )
        assert (own.status_code, code(own)) == (403, "FORBIDDEN")
        bad = await client.send("auth", method, path + "nobody", token)
        assert (bad.status_code, code(bad)) == (400, "VALIDATION_ERROR")


async def test_r1_81_counters_hold_with_redis_down(
    stack: RunningStack, client: Client, guesser: Guesser
) -> None:
    """They live in auth_db: without Redis the back-off is in force all the same."""
    email, address = await somebody(client), guesser.address()
    stack.control("redis", "kill")
    try:
        seen = [code(await guesser.login(email, address=address)) for _ in range(3)]
    finally:
        stack.control("redis", "start")

    assert seen == ["INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS"]


async def test_r1_82_unknown_address_costs_as_much_time(client: Client, guesser: Guesser) -> None:
    """The medians of 40 attempts of each kind differ by less than 20 % or 15 ms."""
    email = await somebody(client)
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(40):
        # In turns, so that whatever else the machine does falls on both.
        for kind, wanted in (("known", email), ("unknown", await nobody())):
            address = guesser.address()
            await guesser.login(await nobody(), address=address)  # opens the connection
            started = time.perf_counter()
            answer = await guesser.login(wanted, address=address)
            times[kind].append(time.perf_counter() - started)
            assert code(answer) == "INVALID_CREDENTIALS"

    known, unknown = (statistics.median(times[kind]) for kind in ("known", "unknown"))
    assert abs(known - unknown) < max(0.2 * known, 0.015), (known, unknown)
