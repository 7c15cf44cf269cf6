"""R1.138, R1.139, R1.142, R6.1: the audit log as an administrator reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from system.admin.domain.audit import AuditFilter, AuditRow
from system.admin.tests.fakes import FakeAuditLog
from system.admin.tests.house import ADMIN, House

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
FULL = AuditRow(
    id="r1",
    user_id=USER,
    user_name="Ann",
    user_email="ann@x.test",
    action="PAYMENT_CREATED",
    resource_type="payment",
    resource_id="p1",
    details={"amount": "1.00"},
    ip_address="203.0.113.7",
    user_agent="probe",
    correlation_id="c-1",
    at=datetime(2026, 1, 17, 10, 0, 0, 123000, tzinfo=UTC),
)
BARE = AuditRow(
    "r2", None, None, None, "USER_LOGIN_FAILED", "user", "h", None, None, None, None, FULL.at
)


@pytest.fixture
def house() -> House:
    """An audit log of 41 rows."""
    return House([FULL, BARE], 41)


@pytest.fixture
def log(house: House) -> FakeAuditLog:
    return house.log


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.http() as client:
        yield client


PATH = "/api/admin/audit-logs"


async def test_a_page(http: httpx.AsyncClient, log: FakeAuditLog) -> None:
    """R1.138, R1.142: rows, pagination, BYPASS; what is unknown is left out."""
    answer = await http.get(PATH, params={"page": "3"}, headers=ADMIN)

    assert answer.status_code == 200
    assert answer.headers["x-cache"] == "BYPASS"
    data = answer.json()["data"]
    assert data["pagination"] == {"page": 3, "limit": 20, "total": 41, "totalPages": 3}
    assert data["auditLogs"] == [
        {
            "id": "r1",
            "userId": USER,
            "action": "PAYMENT_CREATED",
            "resourceType": "payment",
            "resourceId": "p1",
            "userName": "Ann",
            "userEmail": "ann@x.test",
            "details": {"amount": "1.00"},
            "ipAddress": "203.0.113.7",
            "userAgent": "probe",
            "correlationId": "c-1",
            "timestamp": "2026-01-17T10:00:00.123Z",
        },
        {
            "id": "r2",
            "userId": "",
            "action": "USER_LOGIN_FAILED",
            "resourceType": "user",
            "resourceId": "h",
            "timestamp": "2026-01-17T10:00:00.123Z",
        },
    ]
    assert log.asked == (AuditFilter(), 20, 40)


async def test_filters(http: httpx.AsyncClient, log: FakeAuditLog) -> None:
    """R1.138: every filter reaches the log."""
    await http.get(
        PATH,
        params={
            "limit": "100",
            "action": "USER_LOGIN",
            "userId": USER,
            "resourceType": "session",
            "startDate": "2026-01-01",
            "endDate": "2026-01-31",
        },
        headers=ADMIN,
    )

    assert log.asked == (
        AuditFilter(
            "USER_LOGIN",
            USER,
            "session",
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 31, 23, 59, 59, 999000, tzinfo=UTC),
        ),
        100,
        0,
    )


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "limit=0",
        "limit=101",
        "limit=x",
        "action=NOTHING",
        "userId=x",
        "resourceType=thing",
        "startDate=yesterday",
        "startDate=2026-02-01&endDate=2026-01-01",
        "page=1&page=2",
    ],
)
async def test_bad_filters(http: httpx.AsyncClient, query: str) -> None:
    """R1.8: 400 with the issues."""
    answer = await http.get(f"{PATH}?{query}", headers=ADMIN)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("path", [PATH, PATH + "/actions"])
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHORIZED"),
        ({"Authorization": "CUSTOMER"}, 403, "FORBIDDEN"),
        ({"Authorization": "VENDOR"}, 403, "FORBIDDEN"),
    ],
)
async def test_administrators_only(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """R1.17, section 1.12: token and role come before validation."""
    answer = await http.get(path + "?limit=0", headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_actions(http: httpx.AsyncClient) -> None:
    """R1.139: 22 names, sorted."""
    answer = await http.get(PATH + "/actions", headers=ADMIN)

    names = answer.json()["data"]
    assert (len(names), names) == (22, sorted(names))
    assert answer.headers["x-cache"] == "BYPASS"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_way_to_change_rows(http: httpx.AsyncClient, method: str) -> None:
    """R1.142: no API changes or deletes rows."""
    answer = await http.request(method, PATH, headers=ADMIN)

    assert answer.status_code == 404
