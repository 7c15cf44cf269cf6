"""One kind of write at each service, told apart by its correlation id, and what became of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from system.conftest import RunningStack

SERVICES = ("auth", "payments", "admin", "profile")
PROCESSES = (*SERVICES, "gateway")
_PASSWORD = "Newcomer-Pass-123!"


def new_key() -> str:
    """A correlation id that nothing else carries."""
    return f"fault-{uuid.uuid4()}"


@dataclass(frozen=True)
class _Kind:
    """How one service's write is seen from behind.

    Attributes:
        table: where it puts its row.
        event: the event it makes, in the same transaction (R3.16).
        action: of the audit row that follows (R3.43).
    """

    table: str
    event: str
    action: str


_KINDS = {
    "auth": _Kind("users", "user.created", "USER_REGISTERED"),
    "payments": _Kind("payments", "payment.created", "PAYMENT_CREATED"),
    "admin": _Kind("system_config", "config.updated", "SYSTEM_CONFIG_CHANGED"),
    "profile": _Kind("user_profiles", "profile.updated", "PROFILE_UPDATED"),
}


class Desk:
    """Somebody who writes to every service through the gateway, from an address without limits.

    A write carries its key as correlation id; event and audit row carry it on, so that for each
    write it can be told how often it took effect and how often it arrived.
    """

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self.http = httpx.Client(
            base_url=stack.services["gateway"],
            transport=httpx.HTTPTransport(local_address=stack.exempt),
            timeout=15,
        )
        self._tokens = {}
        for role in ("customer", "vendor", "admin"):
            account = stack.account(role)
            answer = self.http.post("/api/auth/login", json=account)
            assert answer.status_code == 200, answer.text
            self._tokens[role] = answer.json()["data"]["accessToken"]
            if role == "vendor":
                self._payee = answer.json()["data"]["user"]["id"]

    def close(self) -> None:
        """Hang up."""
        self.http.close()

    def token(self, role: str) -> str:
        """The access token of the seeded account of a role."""
        return str(self._tokens[role])

    def ask(
        self,
        method: str,
        path: str,
        role: str | None = "customer",
        body: Any = None,
        **headers: str,
    ) -> httpx.Response:
        """Send a request of a role's, or of nobody's; header names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            named["Authorization"] = f"Bearer {self._tokens[role]}"
        return self.http.request(method, path, json=body, headers=named)

    def write(self, service: str, key: str) -> httpx.Response:
        """Register somebody, pay, set a value or change a profile."""
        if service == "auth":
            body = {"email": f"{key}@x.test", "password": _PASSWORD, "name": "New"}
            return self.ask("POST", "/api/auth/register", None, body, X_Correlation_ID=key)
        if service == "payments":
            body = {
                "type": "instant",
                "amount": "1.00",
                "currency": "USD",
                "description": key,
                "recipientId": self._payee,
            }
            return self.ask(
                "POST", "/api/payments", body=body, X_Correlation_ID=key, Idempotency_Key=key
            )
        if service == "admin":
            path = f"/api/admin/config/{key}"
            return self.ask("PUT", path, "admin", {"value": key}, X_Correlation_ID=key)
        return self.ask("PUT", "/api/profile", body={"bio": key}, X_Correlation_ID=key)

    def read(self, service: str) -> httpx.Response:
        """Read what nobody has read before, so that no cache can answer for the database."""
        path, role = {
            "auth": ("/api/auth/me", "customer"),
            "payments": (f"/api/payments/{uuid.uuid4()}", "customer"),
            "admin": ("/api/admin/config", "admin"),
            "profile": ("/api/profile/preferences", "vendor"),
        }[service]
        return self.ask("GET", path, role)

    def effects(self, service: str, key: str) -> int:
        """How often a write took effect: its events, which are of one transaction with it."""
        return self._count(
            service,
            "SELECT count(*) FROM outbox WHERE event_type = %s"
            " AND envelope->'metadata'->>'correlationId' = %s",
            _KINDS[service].event,
            key,
        )

    def arrivals(self, service: str, key: str) -> int:
        """How often a write arrived where every event ends: its audit rows."""
        return self._count(
            "admin",
            "SELECT count(*) FROM audit_logs WHERE action = %s AND correlation_id = %s",
            _KINDS[service].action,
            key,
        )

    def waiting(self, service: str) -> int:
        """How many events of a service the broker does not have yet."""
        return self._count(service, "SELECT count(*) FROM outbox WHERE published_at IS NULL")

    def has_published(self, service: str) -> bool:
        """True if the broker has all events of a service."""
        return self.waiting(service) == 0

    def all_arrived_once(self, service: str, keys: Iterable[str], seconds: float = 20.0) -> None:
        """Wait until each write has arrived; fails if one did more than once, or has two effects.

        Args:
            seconds: for all of them together.
        """
        left = list(keys)
        assert left, "no write to look for"
        until(lambda: all(self.arrivals(service, key) >= 1 for key in left), seconds)
        assert {self.arrivals(service, key) for key in left} == {1}
        assert {self.effects(service, key) for key in left} == {1}

    def succeeds(self, service: str, key: str) -> bool:
        """True if a write succeeds."""
        return self.write(service, key).is_success

    def pays_again(self) -> bool:
        """True if a payment, which needs gateway, session and payments_db, succeeds."""
        return self.write("payments", new_key()).is_success

    def _count(self, service: str, sql: str, *values: Any) -> int:
        with psycopg.connect(self._stack.database(service)) as db:
            row = db.execute(sql, values).fetchone()
        assert row is not None
        return int(row[0])


class Burst:
    """Many writes at once, each by a thread of its own, and what became of each by its key."""

    def __init__(self, desk: Desk, service: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size)
        self._futures: dict[str, Future[httpx.Response]] = {
            key: self._pool.submit(desk.write, service, key)
            for key in (new_key() for _ in range(size))
        }

    def done(self) -> bool:
        """True when all are answered."""
        return all(future.done() for future in self._futures.values())

    def begun(self) -> bool:
        """True when at least one is answered."""
        return any(future.done() for future in self._futures.values())

    def answers(self) -> dict[str, httpx.Response]:
        """Wait for all answers; a connection that broke is an error here."""
        found = {key: future.result() for key, future in self._futures.items()}
        self._pool.shutdown()
        return found


def readiness(stack: RunningStack, process: str) -> tuple[int, dict[str, str]]:
    """What a process says of itself: status of `/health/ready`, and each check's."""
    answer = httpx.get(f"{stack.services[process]}/health/ready", timeout=5)
    body = answer.json()
    data = body["data"] if answer.is_success else body["error"]["details"]
    checks = {name: str(check["status"]) for name, check in data["checks"].items()}
    if answer.is_success:
        assert data["ready"] is True
        assert data["status"] == ("degraded" if "down" in checks.values() else "ready")
    else:
        assert body["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert body["error"]["message"] == "Service not ready"
    return answer.status_code, checks


def is_up(stack: RunningStack, process: str, check: str) -> bool:
    """True if a process says that it finds a dependency."""
    return readiness(stack, process)[1][check] == "up"


def is_down(stack: RunningStack, process: str, check: str) -> bool:
    """True if a process says that it does not find a dependency."""
    return not is_up(stack, process, check)


def is_ready(stack: RunningStack, process: str) -> bool:
    """True if a process is ready and finds all it depends on."""
    return "down" not in readiness(stack, process)[1].values()


def lives(stack: RunningStack, process: str) -> bool:
    """True if `/health/live` answers 200."""
    answer = httpx.get(f"{stack.services[process]}/health/live", timeout=5)
    return answer.status_code == 200


def pids(stack: RunningStack) -> dict[str, int]:
    """The process of each of our programs, 0 where there is none."""
    return {state.part: state.pid for state in stack.states() if state.part in PROCESSES}


@contextmanager
def away(stack: RunningStack, part: str, manner: str = "stop") -> Iterator[None]:
    """A part stopped, killed or paused for a while; it is there again afterwards."""
    back = "resume" if manner == "pause" else "start"
    stack.control(part, manner)
    try:
        yield
    finally:
        stack.control(part, back)


@contextmanager
def locked(
    stack: RunningStack, service: str, table: str | None = None
) -> Iterator[Callable[[], int]]:
    """A table locked against its service; gives who waits for the lock.

    Args:
        table: the one that the service's write needs if not named.

    Yields:
        a function that tells how many of the service's statements wait.
    """
    url = stack.database(service)
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        holder.execute(f"LOCK TABLE {table or table_of(service)} IN ACCESS EXCLUSIVE MODE")

        def blocked() -> int:
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE usename = %s AND wait_event_type = 'Lock'",
                [f"{service}_service"],
            ).fetchone()
            assert row is not None
            return int(row[0])

        yield blocked


def table_of(service: str) -> str:
    """The table that a service's write needs."""
    return _KINDS[service].table


def until(condition: Callable[[], Any], seconds: float) -> float:
    """Wait until the condition holds; returns the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


def refused(answer: httpx.Response) -> None:
    """Hold an answer to R1.14: 503 SERVICE_UNAVAILABLE, with the time to come again."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1


def accepted_and_refused(
    answers: dict[str, httpx.Response],
) -> tuple[list[str], list[str]]:
    """Part a burst's keys by outcome; an answer that is neither success nor 503 fails."""
    for answer in answers.values():
        if not answer.is_success:
            refused(answer)
    taken = [key for key, answer in answers.items() if answer.is_success]
    return taken, [key for key in answers if key not in taken]
