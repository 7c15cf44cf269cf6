"""People of the legacy database, imported: they log in with their old passwords (R1.66, R9.7)."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk

pytestmark = pytest.mark.platform

# R2.23; the generator gives it to everybody.
_PASSWORD = "TestPassword123!"
_ROWS = "1000"
# R0.13, R1.66.
_ARGON2ID = "$argon2id$v=19$m=19456,t=2,p=1$"


@dataclass(frozen=True)
class Imported:
    """Somebody as the legacy database knew them.

    Attributes:
        id: kept by the import (R9.7).
        email: as it was typed into the old application.
        hash: of the password, bcrypt.
        payments: sent or received.
    """

    id: str
    email: str
    hash: str
    payments: int


class Migration:
    """The commands of the target file, run in a folder of their own."""

    def __init__(self, stack: RunningStack, folder: Path) -> None:
        self._commands = {
            name: shlex.split(stack.target["commands"][name]) for name in ("legacy", "migrate")
        }
        self._folder = folder

    def do(self, name: str, *arguments: str) -> str:
        """Run one; it must succeed."""
        done = subprocess.run(
            [*self._commands[name], *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def imported(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two imported people, one of whom wrote the e-mail with capitals; gone afterwards."""
    stack.until_ready()
    migration = Migration(stack, tmp_path_factory.mktemp("migration"))
    try:
        url = migration.do("legacy", "generate", "--rows", _ROWS).strip()
        with psycopg.connect(url) as legacy:
            found = [
                Imported(*row)
                for row in legacy.execute(
                    "SELECT DISTINCT ON (email = lower(email)) u.id, email, password_hash,"
                    " (SELECT count(*) FROM payments p WHERE u.id IN (sender_id, recipient_id))"
                    " FROM users u ORDER BY email = lower(email), 4 DESC"
                )
            ]
        migration.do("migrate", "export")
        migration.do("migrate", "import", "--no-backup")
        yield found
        with psycopg.connect(stack.database("auth")) as auth:
            # What came after the import depends on it, and rollback would rightly stop (R9.11).
            for somebody in found:
                auth.execute("DELETE FROM sessions WHERE user_id = %s", [somebody.id])
                auth.execute("DELETE FROM known_clients WHERE user_id = %s", [somebody.id])
        for service in reversed(SERVICES):
            migration.do("migrate", "rollback", service, "--yes")
    finally:
        migration.do("legacy", "down")


def log_in(desk: Desk, email: str, password: str = _PASSWORD) -> httpx.Response:
    """Through the gateway."""
    return desk.ask("POST", "/api/auth/login", None, {"email": email, "password": password})


def stored_hash(stack: RunningStack, somebody: Imported) -> str:
    """What auth_db holds."""
    with psycopg.connect(stack.database("auth")) as auth:
        row = auth.execute("SELECT password_hash FROM users WHERE id = %s", [somebody.id])
        [found] = row.fetchone() or [""]
    return str(found)


@pytest.mark.parametrize("number", [0, 1], ids=["with capitals", "as it is stored"])
def test_r1_66_an_imported_user_logs_in_and_the_hash_becomes_argon2id(
    stack: RunningStack, desk: Desk, imported: list[Imported], number: int
) -> None:
    """The old password works and no other; after it works the hash is of the new kind, once."""
    somebody = imported[number]
    assert (somebody.email == somebody.email.lower()) == bool(number)
    assert somebody.hash.startswith("$2b$")
    assert stored_hash(stack, somebody) == somebody.hash

    refused = log_in(desk, somebody.email, "Wrong-Pass-123!")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "INVALID_CREDENTIALS")
    assert stored_hash(stack, somebody) == somebody.hash

    answer = log_in(desk, somebody.email)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["user"]["id"] == somebody.id
    assert answer.json()["data"]["user"]["email"] == somebody.email.lower()
    renewed = stored_hash(stack, somebody)
    assert renewed.startswith(_ARGON2ID)

    assert log_in(desk, somebody.email).status_code == 200
    assert stored_hash(stack, somebody) == renewed
    assert log_in(desk, somebody.email, "Wrong-Pass-123!").status_code == 401


def test_r9_7_an_imported_user_finds_what_was_there(desk: Desk, imported: list[Imported]) -> None:
    """Payments of the old application, and a token like everybody's."""
    somebody = max(imported, key=lambda each: each.payments)
    assert somebody.payments > 0
    token = log_in(desk, somebody.email).json()["data"]["accessToken"]
    headers = {"Authorization": f"Bearer {token}"}

    payments = desk.http.get("/api/payments", headers=headers)
    profile = desk.http.get("/api/profile", headers=headers)

    assert payments.json()["data"]["pagination"]["total"] == somebody.payments
    assert profile.json()["data"]["userId"] == somebody.id
