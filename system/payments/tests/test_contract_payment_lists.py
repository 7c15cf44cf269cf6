"""Holds lists of payments to R1.104 and R1.110: filters, order, pages, queries and their plans."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from system.payments.adapters import statements
from system.payments.domain import Actor, ActorRole
from system.payments.entrypoints.requests import list_query, report_query
from system.payments.tests.callers import Stack, User, made, newcomer, outcome
from system.payments.tests.explaining import Loaded, cost, loaded

pytestmark = pytest.mark.platform

STATUS_ORDER = ("pending", "processing", "completed", "failed", "cancelled")
KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "createdAt": lambda row: row["createdAt"],
    "amount": lambda row: float(row["amount"]),
    "status": lambda row: STATUS_ORDER.index(row["status"]),
}


class Book:
    """Payments of somebody new, of every status and type, some alike in what lists sort by."""

    def __init__(self, payer: User, recipient: User, admin: User, stack: Stack) -> None:
        self.payer = payer
        for number in range(15):
            kind = ("instant", "scheduled", "recurring")[number % 3]
            payment_id = made(payer.pay(recipient, amount=f"{1 + number // 2}.50", type=kind))
            for status in (
                (),
                ("processing",),
                ("processing", "completed"),
                ("processing", "failed"),
                ("cancelled",),
            )[number % 5]:
                assert admin.change(payment_id, status).status_code == 200
        with psycopg.connect(stack.database("payments")) as db:
            # Three a day, the last of each in its last millisecond.
            db.execute(
                "UPDATE payments p SET created_at = timestamptz '2025-03-01T12:00:00Z' "
                "+ (n / 3) * interval '1 day' + CASE n %% 3 WHEN 0 THEN interval '0' "
                "WHEN 1 THEN interval '0' ELSE interval '11:59:59.999' END "
                "FROM (SELECT id, row_number() OVER (ORDER BY created_at) - 1 AS n "
                "FROM payments WHERE sender_id = %s) o WHERE o.id = p.id",
                [payer.id],
            )
        self.rows = self.list(limit=100)

    def list(self, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.ask(**parameters)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]["payments"]
        return rows

    def ask(self, **parameters: Any) -> httpx.Response:
        # Read past the cache: the times were set behind the service's back.
        return self.payer.get(f"/payments?{urlencode(parameters)}", **{"Cache-Control": "no-cache"})


@pytest.fixture(scope="module")
def book(stack: Stack) -> Iterator[Book]:
    payer = newcomer(stack)
    vendor, admin = (User(stack, stack.account(role)) for role in ("vendor", "admin"))
    yield Book(payer, vendor, admin, stack)
    for user in (payer, vendor, admin):
        user.close()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_r1_110_filters(book: Book) -> None:
    """Each filter alone and with others picks exactly the rows it describes."""
    day, last = "2025-03-02", "2025-03-02T23:59:59.999Z"
    tests: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        *(({"status": s}, lambda row, s=s: row["status"] == s) for s in STATUS_ORDER),
        *(({"type": t}, lambda row, t=t: row["type"] == t) for t in ("instant", "recurring")),
        ({"startDate": day}, lambda row: row["createdAt"] >= f"{day}T00"),
        ({"fromDate": last}, lambda row: row["createdAt"] >= last),
        ({"endDate": day}, lambda row: row["createdAt"] <= last),
        (
            {"toDate": "2025-03-02T12:00:00Z"},
            lambda row: row["createdAt"] <= f"{day}T12:00:00.000Z",
        ),
        ({"startDate": day, "endDate": day}, lambda row: row["createdAt"].startswith(day)),
        ({"minAmount": "3.5"}, lambda row: float(row["amount"]) >= 3.5),
        ({"maxAmount": 3}, lambda row: float(row["amount"]) <= 3),
        (
            {"minAmount": "2.50", "maxAmount": "5.50", "type": "instant", "fromDate": day},
            lambda row: (
                2.5 <= float(row["amount"]) <= 5.5
                and row["type"] == "instant"
                and row["createdAt"] >= f"{day}T00"
            ),
        ),
        (
            {"status": "failed", "type": "scheduled"},
            lambda row: row["status"] == "failed" and row["type"] == "scheduled",
        ),
    ]
    for parameters, fits in tests:
        wanted = [row["id"] for row in book.rows if fits(row)]
        answer = book.ask(limit=100, **parameters).json()["data"]

        assert ids(answer["payments"]) == wanted, parameters
        assert answer["pagination"]["total"] == len(wanted), parameters
        assert 0 < len(wanted) < len(book.rows), f"{parameters} would pass unfiltered"


@pytest.mark.parametrize(("sort", "order"), [*product(KEYS, ("asc", "desc"))])
def test_r1_110_order_and_pages(book: Book, sort: str, order: str) -> None:
    """Pages put together are the whole list in order, ties by id in the same direction."""
    pages = [book.ask(sort=sort, order=order, limit=4, page=page).json() for page in range(1, 6)]
    rows = [row for page in pages for row in page["data"]["payments"]]

    expected = sorted(
        book.rows, key=lambda row: (KEYS[sort](row), row["id"]), reverse=order == "desc"
    )
    assert ids(rows) == ids(expected)
    assert [len(page["data"]["payments"]) for page in pages] == [4, 4, 4, 3, 0]
    assert [page["data"]["pagination"] for page in pages] == [
        {"page": number, "limit": 4, "total": 15, "totalPages": 4} for number in range(1, 6)
    ]
    assert any(KEYS[sort](one) == KEYS[sort](other) for one, other in pairwise(rows)), "no ties"


def test_r1_110_defaults(book: Book) -> None:
    """Ten a page, newest first."""
    answer = book.ask().json()["data"]

    assert answer["pagination"] == {"page": 1, "limit": 10, "total": 15, "totalPages": 2}
    assert ids(answer["payments"]) == ids(book.rows[:10])


def test_r1_110_bad_parameters(customer: User) -> None:
    """Each is 400; unknown ones are ignored (R1.7); all issues come at once (R1.16)."""
    for query in (
        *("page=0", "limit=0", "limit=101", "sort=id", "order=up", "status=gone", "type=once"),
        *("startDate=x", "endDate=2026-02-30", "minAmount=1.005", "maxAmount=x", "page=1&page=2"),
        "startDate=2026-01-01&fromDate=2026-01-02",
        "endDate=2026-01-01&toDate=2026-01-02",
        "startDate=2026-01-02&endDate=2026-01-01",
        "minAmount=2&maxAmount=1",
    ):
        assert outcome(customer.get(f"/payments?{query}")) == (400, "VALIDATION_ERROR"), query

    all_at_once = customer.get("/payments?page=0&limit=x&sort=y").json()["error"]["details"]
    assert [issue["path"] for issue in all_at_once] == [["page"], ["limit"], ["sort"]]
    assert customer.get("/payments?nothing=x&page=999999999999999").status_code == 200


def test_a_payment_to_oneself_is_counted_once(stack: Stack, vendor: User) -> None:
    """No rule keeps the old system's data from having one; lists and reports show it once."""
    payment_id = str(uuid.uuid4())
    fresh = {"Cache-Control": "no-cache"}
    day = "startDate=2019-05-05&endDate=2019-05-05"
    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        db.execute(
            "INSERT INTO payments (id, sender_id, recipient_id, amount, type, created_at) "
            "VALUES (%(id)s, %(user)s, %(user)s, 1, 'instant', '2019-05-05T00:00:00Z')",
            {"id": payment_id, "user": vendor.id},
        )
        try:
            listed = vendor.get(f"/payments?{day}", **fresh).json()["data"]
            report = vendor.get(f"/payments/reports?{day}", **fresh).json()["data"]
        finally:
            db.execute("DELETE FROM payments WHERE id = %s", [payment_id])

    assert ids(listed["payments"]) == [payment_id]
    assert listed["pagination"]["total"] == report["totalPayments"] == 1
    assert report["totalAmount"] == "1.00"


def queries(stack: Stack) -> float:
    """How many statements payments-service has run for lists, payments and reports so far."""
    text = httpx.get(f"{stack.services['payments']}/metrics", timeout=10).text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("db_query_duration_seconds_count{")
        and 'operation="select"' in line
        and ('table="payments"' in line or 'table="users"' in line)
    )


@pytest.mark.parametrize("path", ["?limit=1", "?limit=100", "/reports", "/recipients"])
def test_a_read_is_one_query(stack: Stack, admin: User, path: str) -> None:
    """However many rows it shows: nothing is fetched row by row."""
    before = queries(stack)

    answer = admin.get(f"/payments{path}", **{"Cache-Control": "no-cache"})

    assert answer.headers["X-Cache"] == "BYPASS"
    assert queries(stack) - before == 1


@pytest.fixture(scope="module")
def full(stack: Stack) -> Iterator[Loaded]:
    """A migrated database with 100,000 payments, beside the service's own."""
    parts = urlsplit(stack.database("payments"))
    name = "payments_explained"
    with psycopg.connect(urlunsplit(parts), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
        try:
            with loaded(urlunsplit(parts._replace(path=f"/{name}"))) as found:
                yield found
        finally:
            db.execute(f"DROP DATABASE {name}")


# One of each kind of value, few enough rows that an index is the better way.
FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"status": "failed"},
    {"type": "recurring"},
    {"startDate": "2026-01-14"},
    {"endDate": "2025-02-10"},
    {"startDate": "2025-06-01", "endDate": "2025-06-02"},
    {"minAmount": "9990"},
    {"maxAmount": "5"},
    {"minAmount": "100", "maxAmount": "110"},
    {"status": "failed", "type": "recurring"},
    {"status": "processing", "startDate": "2026-01-01"},
    {"type": "scheduled", "minAmount": "9900"},
    {"status": "cancelled", "type": "instant", "endDate": "2025-03-01", "maxAmount": "1000"},
)


@pytest.mark.parametrize("role", [ActorRole.ADMIN, ActorRole.CUSTOMER])
@pytest.mark.parametrize("given", FILTERS, ids=urlencode)
def test_every_list_query_uses_an_index(
    full: Loaded, role: ActorRole, given: dict[str, str]
) -> None:
    """For every sort and direction no page or total is found by looking through the table.

    With a filter it costs less than that would, also where an index is what is looked through.
    """
    everything = cost(full.plan("SELECT count(*) FROM payments", ()))
    for sort, order, page in product(KEYS, ("asc", "desc"), ("1", "3")):
        parameters = {**given, "sort": sort, "order": order, "page": page}
        query = list_query(Actor(full.somebody, role), parameters)

        plan = full.plan(*statements.page_of(query))

        assert "Seq Scan on payments" not in plan, f"{parameters}\n{plan}"
        assert "Index" in plan, plan
        assert not given or cost(plan) < everything, f"{parameters}\n{plan}"


@pytest.mark.parametrize("role", [ActorRole.ADMIN, ActorRole.VENDOR])
@pytest.mark.parametrize("given", [{}, {"currency": "EUR"}], ids=urlencode)
def test_every_report_uses_an_index(full: Loaded, role: ActorRole, given: dict[str, str]) -> None:
    """The default period of a report is a small part of the table."""
    query = report_query(Actor(full.somebody, role), given, full.newest)

    plan = full.plan(*statements.totals_of(query))

    assert "Seq Scan on payments" not in plan, plan


def test_histories_of_many_payments_are_found_by_index(full: Loaded) -> None:
    """A hundred at once: no table is looked through for them."""
    ids = [f"payment-{number}" for number in range(0, 100_000, 1_000)]

    plan = full.plan(statements.HISTORIES, (ids,))

    assert "Seq Scan" not in plan, plan


def test_a_payment_is_found_by_index(full: Loaded) -> None:
    """With parties and history."""
    plan = full.plan(statements.FIND, (full.some_payment,))

    assert "Seq Scan" not in plan, plan
