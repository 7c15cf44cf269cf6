"""R2.21: what auth-service changes is seen in both copies, soon."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from system.conftest import RunningStack
from system.tests.desks import Desk, new_key

pytestmark = pytest.mark.platform

PEOPLE = 8
COPIES = {
    "admin": "SELECT email, name, status::text, role::text, false FROM users WHERE id = %s",
    "payments": "SELECT email, name, status, NULL, deleted_at IS NOT NULL FROM users WHERE id = %s",
}
Seen = dict[str, Any]


def test_r2_21_every_kind_of_change_reaches_every_copy(well: RunningStack, desk: Desk) -> None:
    """Within 5 s, 95 % within 1 s: new, renamed, another address, role, suspended, back, gone."""
    delays: list[float] = []
    with (
        psycopg.connect(well.database("admin"), autocommit=True) as admin,
        psycopg.connect(well.database("payments"), autocommit=True) as payments,
    ):
        databases = {"admin": admin, "payments": payments}

        def arrives(user: str, expected: Seen) -> None:
            answered = time.monotonic()
            waiting = dict(databases)
            while waiting:
                for name, db in list(waiting.items()):
                    if copy_of(db, name, user) == as_in(name, expected):
                        delays.append(time.monotonic() - answered)
                        del waiting[name]
                late = time.monotonic() - answered
                assert late < 5, f"{list(waiting)} do not show {expected} after {late:.1f} s"
                time.sleep(0.005)

        for _ in range(PEOPLE):
            live(desk, arrives)

    assert len(delays) == PEOPLE * 7 * len(COPIES)
    soon = sorted(delays)[int(len(delays) * 0.95) - 1]
    assert soon < 1


def live(desk: Desk, arrives: Any) -> None:
    """One person's life, at each change of which `arrives` waits for the copies."""
    key = new_key()
    user = desk.write("auth", key).json()["data"]["user"]["id"]
    seen: Seen = {
        "email": f"{key}@x.test", "name": "New", "status": "active", "role": "CUSTOMER",
    }  # fmt: skip
    arrives(user, seen)
    path = f"/api/admin/users/{user}"
    for method, where, body, change in (
        ("PUT", "", {"name": "Other"}, {"name": "Other"}),
        ("PUT", "", {"email": f"new-{key}@x.test"}, {"email": f"new-{key}@x.test"}),
        ("PATCH", "/role", {"role": "VENDOR"}, {"role": "VENDOR"}),
        ("PATCH", "/status", {"isActive": False}, {"status": "suspended"}),
        ("PATCH", "/status", {"isActive": True}, {"status": "active"}),
    ):
        assert desk.ask(method, path + where, "admin", body).is_success
        seen |= change
        arrives(user, seen)
    assert desk.ask("DELETE", path, "admin").status_code == 204
    arrives(user, {})


def copy_of(db: psycopg.Connection[Any], name: str, user: str) -> Seen | None:
    """What a copy shows of somebody; {} for one who was deleted, None for nobody."""
    row = db.execute(COPIES[name].encode(), [user]).fetchone()
    if row is None or row[4]:
        return {} if name == "admin" or row is not None else None
    seen = dict(zip(("email", "name", "status", "role"), row, strict=False))
    return as_in(name, seen)


def as_in(name: str, seen: Seen) -> Seen:
    """What a copy knows of it: payments knows no roles."""
    return seen if name == "admin" else {k: v for k, v in seen.items() if k != "role"}
