"""What the command refuses, that a refusal leaves nothing, and what its exit code says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from system.migration.domain.entities import SERVICES
from system.migration.legacy.generator import generate
from system.migration.ports import NullProgress
from system.migration.tests.conftest import Place
from system.stack.state import PROJECT

pytestmark = pytest.mark.platform

DATA = "migration-data"
_NEW = "00000000-0000-4000-8000-000000000001"


def pictures(place: Place) -> dict[str, Any]:
    """All four databases."""
    return {service: place.picture(service) for service in SERVICES}


def refused(place: Place, *arguments: str, **more: Any) -> str:
    """Run a command that must fail and change nothing; returns what it said."""
    before = pictures(place)
    finished = place.migrate(*arguments, **more)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert pictures(place) == before
    return str(finished.stderr)


def rewrite(place: Place, service: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a data file by way of its document."""
    path = place.folder / DATA / f"{service}-data.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


@pytest.fixture
def exported(place: Place) -> Place:
    """A place with data files."""
    assert place.migrate("export").returncode == 0
    return place


@pytest.fixture
def imported(exported: Place) -> Place:
    """A place where everything has been imported."""
    assert exported.migrate("import", "--no-backup").returncode == 0
    return exported


def test_r9_14_import_wants_a_backup_of_today(exported: Place) -> None:
    """None, one of yesterday, one of another database and a damaged one are refused."""
    assert "there is no backup" in refused(exported, "import")

    assert exported.migrate("backup").returncode == 0
    [folder] = (exported.folder / DATA).glob("backup-*")
    manifest = folder / "backup.json"
    good = manifest.read_text()
    document = json.loads(good)

    yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    manifest.write_text(json.dumps({**document, "createdAt": yesterday}))
    assert "expected one of today" in refused(exported, "import")

    document["databases"]["admin_db"]["database"] = "127.0.0.1:1/admin_db"
    manifest.write_text(json.dumps(document))
    assert "is not of admin_db at" in refused(exported, "import")

    manifest.write_text(good)
    dump = folder / "auth_db.dump"
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-1])
    assert "missing or damaged" in refused(exported, "import")

    dump.write_bytes(whole)
    assert exported.migrate("import").returncode == 0


def test_r9_9_one_altered_byte_of_a_file_is_refused(exported: Place) -> None:
    """Wherever it is: in a row, in a checksum, in the form."""
    path = exported.folder / DATA / "payments-data.json"
    whole = path.read_bytes()
    place_of_row = whole.index(b'"amount":"', whole.index(b'"payments":[')) + len(b'"amount":"')
    place_of_sum = whole.index(b'":"', whole.index(b'"checksums"')) + 3
    for at in (place_of_row, place_of_sum):
        other = b"8" if whole[at : at + 1] != b"8" else b"7"
        path.write_bytes(whole[:at] + other + whole[at + 1 :])
        said = refused(exported, "import", "--no-backup")
        assert "was altered" in said
        assert "payments do not agree with their checksums" in said
    path.write_bytes(whole[:-40])
    assert "near character" in refused(exported, "import", "--no-backup")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found["users"].pop(), "missing"),
        (lambda found: found["users"].append(found["users"][0]), "there 2 times"),
        (lambda found: found["metadata"].update(userCount=3), "expected the 3 of userCount"),
        (lambda found: found["metadata"].update(formatVersion=2), "formatVersion is 2"),
        (lambda found: found.pop("metadata"), "no checksums"),
        (lambda found: found["users"][0].pop("id"), "a row without id"),
    ],
)
def test_r9_9_an_altered_file_is_refused(
    exported: Place, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """Rows lost, doubled, uncounted, of another version."""
    rewrite(exported, "auth", change)
    assert said in refused(exported, "import", "--no-backup")
    assert exported.migrate("validate").returncode == 1


def test_r9_9_the_blanks_of_a_file_do_not_matter(exported: Place) -> None:
    """A file written again by another program is as good; only its content counts."""
    for service in SERVICES:
        rewrite(exported, service, lambda _found: None)
    assert exported.migrate("import", "--no-backup").returncode == 0
    assert exported.migrate("validate").returncode == 0


def test_r9_9_a_missing_file_is_refused(exported: Place) -> None:
    """With the command that makes it; payments need the users as well."""
    (exported.folder / DATA / "auth-data.json").unlink()
    assert "bin/migrate export auth" in refused(exported, "import", "payments", "--no-backup")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE payments SET amount = 0", "amount is '0.00', expected an amount"),
        ("UPDATE payments SET currency = 'usd'", "currency is 'usd'"),
        ("UPDATE users SET role = 'ROOT'", "role is 'ROOT', expected ADMIN, CUSTOMER or VENDOR"),
        ("UPDATE users SET email = 'nobody'", "email is 'nobody'"),
        ("UPDATE user_profiles SET preferences = '[]'", "preferences is [], expected a JSON obj"),
    ],
)
def test_r9_9_rows_that_break_a_constraint_are_listed(place: Place, damage: str, said: str) -> None:
    """Every one of them, and nothing of the rest arrives."""
    table = damage.split()[1]
    ids = [row[0] for row in place.fetch("mfe_poc2", f"SELECT id FROM {table} ORDER BY id LIMIT 2")]
    last = ids[1] if "nobody" not in damage else ids[0]
    place.change("mfe_poc2", f"{damage} WHERE id IN ('{ids[0]}', '{last}')")
    assert place.migrate("export").returncode == 0

    heard = refused(place, "import", "--no-backup")

    assert said in heard
    assert all(row_id in heard for row_id in {ids[0], last})


def test_r9_9_emails_that_differ_only_in_case_stop_the_import(place: Place) -> None:
    """Both are named."""
    first, second = (
        row[0] for row in place.fetch("mfe_poc2", "SELECT id FROM users ORDER BY id LIMIT 2")
    )
    place.change("mfe_poc2", f"UPDATE users SET email = 'A.B@mail.example.org' WHERE id='{first}'")
    place.change("mfe_poc2", f"UPDATE users SET email = 'a.b@mail.example.org' WHERE id='{second}'")
    assert place.migrate("export").returncode == 0

    said = refused(place, "import", "--no-backup")

    assert f"users {first}: email is there more than once" in said
    assert f"users {second}: email is there more than once" in said


def test_r9_9_rows_that_name_nobody_stop_the_import(place: Place) -> None:
    """Even where the legacy database has lost its foreign keys; and nothing else is blamed."""
    [(user,)] = place.fetch("mfe_poc2", "SELECT sender_id FROM payments ORDER BY id LIMIT 1")
    wanted = place.fetch(
        "mfe_poc2", f"SELECT id FROM payments WHERE '{user}' IN (sender_id, recipient_id)"
    )
    place.change(
        "mfe_poc2", f"SET session_replication_role = replica; DELETE FROM users WHERE id='{user}'"
    )
    assert place.migrate("export").returncode == 0

    said = refused(place, "import", "--no-backup")

    assert all(f"payments {row_id}" in said for (row_id,) in wanted)
    assert "paymentTransactions" not in said


def test_r9_9_an_address_that_is_taken_stops_the_import(exported: Place) -> None:
    """A new user may not have got it meanwhile."""
    [(user_id, email)] = exported.fetch("mfe_poc2", "SELECT id, lower(email) FROM users LIMIT 1")
    exported.change(
        "auth_db",
        "INSERT INTO users (id, email, password_hash, name, role) VALUES"
        f" ('00000000-0000-4000-8000-000000000001', '{email}', 'x', 'x', 'ADMIN')",
    )
    assert f"users {user_id}: email belongs to another row" in refused(
        exported, "import", "--no-backup"
    )


def test_r9_9_rows_with_other_content_stay_and_are_reported(imported: Place) -> None:
    """What somebody changed is kept; exit code 1."""
    [(payment,)] = imported.fetch("payments_db", "SELECT max(id) FROM payments")
    imported.change("payments_db", f"UPDATE payments SET description='x' WHERE id='{payment}'")
    said = refused(imported, "import", "--no-backup")
    assert f"Payments: 1 are there with other content and stay as they are: {payment}" in said


def test_r9_9_a_deleted_user_does_not_come_back(imported: Place) -> None:
    """Who was imported and deleted since stays deleted, and is reported."""
    [(profile,)] = imported.fetch("profile_db", "SELECT max(id) FROM user_profiles")
    imported.change("profile_db", f"DELETE FROM user_profiles WHERE id='{profile}'")
    said = refused(imported, "import", "--no-backup")
    assert "User Profiles: 1 were imported before and deleted since" in said
    assert profile in said


def test_r9_3_a_dry_run_changes_nothing(exported: Place) -> None:
    """It says what would happen, and wants no backup."""
    before = pictures(exported)
    finished = exported.migrate("import", "--dry-run")
    assert finished.returncode == 0
    assert "Payments                        56" in finished.stdout
    assert pictures(exported) == before


def test_r9_9_killed_in_the_middle_nothing_is_left(place: Place) -> None:
    """SIGKILL between the first inserted row and the last; afterwards the import works."""
    generate(place.cluster.url("mfe_poc2"), 20_000, NullProgress())
    assert place.migrate("export").returncode == 0
    before = pictures(place)
    # A lock that another session holds stops the import at its last table, all else being done.
    with psycopg.connect(place.cluster.url("profile_db")) as holder:
        holder.execute("LOCK TABLE user_profiles IN EXCLUSIVE MODE")
        command = subprocess.Popen(
            [str(PROJECT / "bin" / "migrate"), "import", "--no-backup"],
            cwd=place.folder,
            env=place.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_blocked(place, "profile_db", command)
        inserted = place.fetch(
            "payments_db",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migrate'"
            " AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        )
        assert inserted == [(3,)]  # auth, payments and admin have written
        os.kill(command.pid, signal.SIGKILL)
        command.wait(30)
    assert pictures(place) == before

    assert place.migrate("import", "--no-backup").returncode == 0
    assert place.migrate("validate").returncode == 0


def until_blocked(place: Place, database: str, command: subprocess.Popen[bytes]) -> None:
    """Wait until the command waits for a lock in this database."""
    waiting = """SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                 WHERE NOT granted AND a.application_name = 'migrate'"""
    deadline = time.monotonic() + 120
    while place.fetch(database, waiting) == [(0,)]:
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_r9_6_export_reads_one_snapshot(place: Place) -> None:
    """A row that is committed while the export is under way is in none of the files."""
    [(total,)] = place.fetch("mfe_poc2", "SELECT count(*) FROM user_profiles")
    [(user,)] = place.fetch(
        "mfe_poc2",
        "SELECT max(id) FROM users u WHERE NOT EXISTS"
        " (SELECT FROM user_profiles p WHERE p.user_id = u.id)",
    )
    with psycopg.connect(place.cluster.url("mfe_poc2")) as holder:
        # The export's last table; it has read all others when it waits for this one.
        holder.execute("LOCK TABLE user_profiles IN ACCESS EXCLUSIVE MODE")
        command = subprocess.Popen(
            [str(PROJECT / "bin" / "migrate"), "export"],
            cwd=place.folder,
            env=place.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_blocked(place, "mfe_poc2", command)
        holder.execute("INSERT INTO user_profiles (id, user_id) VALUES (%s, %s)", (_NEW, user))
        holder.commit()
    assert command.wait(60) == 0

    path = place.folder / DATA / "profile-data.json"
    assert len(json.loads(path.read_text(encoding="utf-8"))["userProfiles"]) == total > 0


def test_two_imports_do_not_meet(exported: Place) -> None:
    """The second is told to wait."""
    with psycopg.connect(exported.cluster.url("admin_db")) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (0x5EA7_41A2,))
        assert "another migration command" in refused(exported, "import", "--no-backup")


@pytest.mark.parametrize("answer", ["", "no\n", "y\n", "yes please\n"])
def test_r9_11_anything_but_yes_does_nothing(imported: Place, answer: str) -> None:
    """Exit code 0, and all rows are there."""
    before = imported.picture("profile")
    finished = imported.migrate("rollback", "profile", answer=answer)
    assert finished.returncode == 0
    assert "nothing was done" in finished.stdout
    assert imported.picture("profile") == before


@pytest.mark.parametrize("answer", ["yes\n", "YES\n", " Yes \n"])
def test_r9_11_yes_in_any_case_removes(imported: Place, answer: str) -> None:
    """The rows are gone, and a second rollback finds nothing to do."""
    assert imported.migrate("rollback", "profile", answer=answer).returncode == 0
    assert imported.picture("profile")["public.user_profiles"] == []
    finished = imported.migrate("rollback", "profile", "--yes")
    assert finished.returncode == 0
    assert "nothing to remove" in finished.stdout


def test_r9_11_what_was_created_afterwards_stays(imported: Place) -> None:
    """In each database a row that came later survives; the audit log stays insert-only."""
    later = {
        "auth": "INSERT INTO users (id, email, password_hash, name, role) VALUES"
        f" ('{_NEW}', 'new@example.com', 'x', 'x', 'ADMIN')",
        "payments": "INSERT INTO users (id, email, name, status, version) VALUES"
        f" ('{_NEW}', 'new@example.com', 'x', 'active', 1);"
        " INSERT INTO payments (id, sender_id, amount, type)"
        f" VALUES ('{_NEW}', '{_NEW}', 1, 'instant')",
        "admin": f"INSERT INTO audit_logs (id, action) VALUES ('{_NEW}', 'x')",
        "profile": f"INSERT INTO user_profiles (id, user_id) VALUES ('{_NEW}', '{_NEW}')",
    }
    left = {"auth": "users", "payments": "payments", "admin": "audit_logs",
            "profile": "user_profiles"}  # fmt: skip
    for service, statement in later.items():
        imported.change(f"{service}_db", statement)
        finished = imported.migrate("rollback", service, "--yes")
        assert finished.returncode == 0, finished.stderr
        assert imported.fetch(f"{service}_db", f"SELECT id FROM {left[service]}") == [(_NEW,)]
    keys = imported.fetch("admin_db", "SELECT key FROM system_config ORDER BY 1")
    assert keys == [("app.version",), ("payment.min_amount",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        imported.change("admin_db", "DELETE FROM audit_logs")


@pytest.mark.parametrize(
    ("service", "statement", "said"),
    [
        (
            "auth",
            "INSERT INTO sessions (id, user_id, expires_at) SELECT '{new}', max(id), now()"
            " FROM users",
            "1 of sessions by user_id",
        ),
        (
            "auth",
            "INSERT INTO devices (id, user_id, device_id) SELECT '{new}', max(id), 'x' FROM users",
            "1 of devices by user_id",
        ),
        (
            "payments",
            "INSERT INTO payments (id, sender_id, amount, type) SELECT '{new}', max(id), 1,"
            " 'instant' FROM users",
            "1 of payments by sender_id",
        ),
        (
            "payments",
            "INSERT INTO payment_transactions (id, payment_id, status) SELECT '{new}', max(id),"
            " 'failed' FROM payments",
            "1 of payment_transactions by payment_id",
        ),
        (
            "auth",
            "INSERT INTO known_clients (user_id, client, last_success_at) SELECT max(id), '{new}',"
            " now() FROM users",
            "1 of known_clients by user_id",
        ),
        (
            "payments",
            "INSERT INTO provider_notices (payment_id, status, psp_transaction_id)"
            " SELECT max(id), 'failed', '{new}' FROM payments",
            "1 of provider_notices by payment_id",
        ),
    ],
)
def test_r9_11_later_rows_that_depend_stop_the_rollback(
    imported: Place, service: str, statement: str, said: str
) -> None:
    """They are named, and nothing is removed, by cascade or otherwise."""
    imported.change(f"{service}_db", statement.format(new=_NEW))
    heard = refused(imported, "rollback", service, "--yes")
    assert said in heard
    assert _NEW in heard or said.split()[2] in ("known_clients", "provider_notices")


def test_r9_6_a_failed_export_leaves_the_older_files(exported: Place) -> None:
    """All four, though only the last table is broken."""
    before = {path: path.read_bytes() for path in (exported.folder / DATA).iterdir()}
    exported.change("mfe_poc2", "DROP TABLE user_profiles")
    assert "user_profiles" in refused(exported, "export")
    assert {path: path.read_bytes() for path in (exported.folder / DATA).iterdir()} == before


def test_a_number_that_would_change_is_refused(place: Place) -> None:
    """A file could not carry it as it is."""
    place.change(
        "mfe_poc2",
        "UPDATE payments SET metadata = '{\"rate\": 0.12345678901234567890123}'"
        " WHERE id = (SELECT max(id) FROM payments)",
    )
    assert "0.12345678901234567890123" in refused(place, "export")


def test_r0_17_exit_codes(place: Place) -> None:
    """2 for wrong usage and what is not set, 1 for a database that is away; all say what to do."""
    for wrong in ([], ["fly"], ["export", "edge"], ["rollback"], ["import", "--yes"]):
        finished = place.command(*wrong)
        assert finished.returncode == 2
        assert "--help" in finished.stderr
    for variable, command in (
        ("DATABASE_URL", ["export"]),
        ("ADMIN_MIGRATION_DATABASE_URL", ["import", "--no-backup"]),
    ):
        finished = place.migrate(*command, **{variable: ""})
        assert finished.returncode == 2
        assert f"{variable}: not set" in finished.stderr
    finished = place.migrate("export", DATABASE_URL="postgresql://a:secret@127.0.0.1:1/x")
    assert finished.returncode == 1
    assert "127.0.0.1:1/x does not let us in" in finished.stderr
    assert "DATABASE_URL" in finished.stderr
    assert "secret" not in finished.stderr


def test_help_teaches(tmp_path: Path) -> None:
    """Each command explains itself, and so does the whole, as a person would ask."""
    for command in ("", "backup", "export", "import", "validate", "rollback", "status"):
        finished = subprocess.run(
            [str(PROJECT / "bin" / "migrate"), *filter(None, [command]), "--help"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0
        assert len(finished.stdout.splitlines()) > 8
