"""The whole way on real databases: backup, export, import, validate, rollback, import again."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from system.migration.adapters.dumps import _program
from system.migration.domain.entities import SERVICES
from system.migration.tests.conftest import Place, owner_url

pytestmark = pytest.mark.platform

DATA = "migration-data"


def canonical_sum(row: Any) -> str:
    """R9.8, written down a second time."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def document(place: Place, service: str) -> dict[str, Any]:
    """A data file, read the simple way."""
    text = (place.folder / DATA / f"{service}-data.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def done(place: Place, *arguments: str, **more: Any) -> str:
    """Run the command, which must succeed; returns what it printed."""
    finished = place.migrate(*arguments, **more)
    assert finished.returncode == 0, finished.stderr
    return str(finished.stdout)


@pytest.fixture
def imported(place: Place) -> Place:
    """A place where everything has been imported."""
    done(place, "export")
    done(place, "import", "--no-backup")
    return place


def test_r9_11_the_whole_way_and_back(place: Place) -> None:
    """Everything arrives, can be taken out without a trace, and arrives again."""
    empty = {service: place.picture(service) for service in SERVICES}
    for command in ("backup", "export", "import", "validate"):
        finished = place.command(command)
        assert finished.returncode == 0, finished.stderr
    first = {service: place.picture(service) for service in SERVICES}
    assert len(first["payments"]["public.payments"]) == 56

    for service in reversed(SERVICES):
        done(place, "rollback", service, "--yes")
    assert {service: place.picture(service) for service in SERVICES} == empty
    assert place.migrate("validate").returncode == 1

    done(place, "import")
    done(place, "validate")
    for service in SERVICES:
        again = place.picture(service)
        for table in again:
            if table not in ("public.sessions", "legacy_migration.runs"):  # these hold the time
                assert again[table] == first[service][table], table


def test_r9_6_export_changes_nothing_and_tells_everything(place: Place) -> None:
    """Counts, checksums, order and names of the rows; readable by the owner only."""
    before = place.fetch("mfe_poc2", "SELECT p::text FROM payments p ORDER BY id")
    done(place, "export")

    assert place.fetch("mfe_poc2", "SELECT p::text FROM payments p ORDER BY id") == before
    parts = {
        "auth": {"users": "userCount", "refreshTokens": "tokenCount"},
        "payments": {"payments": "paymentCount", "paymentTransactions": "transactionCount"},
        "admin": {"auditLogs": "auditLogCount", "systemConfig": "configCount"},
        "profile": {"userProfiles": "profileCount"},
    }
    for service, entities in parts.items():
        path = place.folder / DATA / f"{service}-data.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found = document(place, service)
        assert found["metadata"]["formatVersion"] == 1
        datetime.strptime(found["metadata"]["exportedAt"], "%Y-%m-%dT%H:%M:%S.%fZ")
        for entity, count in entities.items():
            rows = found[entity]
            key = "key" if entity == "systemConfig" else "id"
            assert found["metadata"][count] == len(rows) > 0
            assert found["metadata"]["checksums"][entity] == {
                row[key]: canonical_sum(row) for row in rows
            }
            order = [(row[key],) if key == "key" else (row["createdAt"], row[key]) for row in rows]
            assert order == sorted(order)
    left = {path.name for path in (place.folder / DATA).iterdir()}
    assert left == {f"{service}-data.json" for service in SERVICES}


def test_r9_7_rows_arrive_as_the_rules_say(imported: Place) -> None:
    """E-mails, tokens, sessions, hashes, amounts, times and preferences."""
    legacy = {row[0]: row for row in imported.fetch("mfe_poc2", "SELECT * FROM users")}
    users = imported.fetch(
        "auth_db",
        "SELECT id, email, password_hash, name, role::text, email_verified, status::text, version,"
        " created_at::timestamp(3), updated_at::timestamp(3) FROM users",
    )
    assert len(users) == len(legacy) > 0
    for user in users:
        old = legacy[user[0]]
        assert user == (old[0], old[1].lower(), *old[2:6], "active", 1, *old[6:8])
    assert any(old[1] != old[1].lower() for old in legacy.values())

    tokens = imported.fetch("mfe_poc2", "SELECT id, token FROM refresh_tokens")
    arrived = {
        row[0]: row[1:]
        for row in imported.fetch(
            "auth_db",
            """SELECT t.id, token_hash, is_revoked, t.last_used_at, token_family,
                      s.user_id = t.user_id, s.revoked_at IS NOT NULL
               FROM refresh_tokens t JOIN sessions s ON s.id = t.token_family""",
        )
    }
    whole = (imported.folder / DATA / "auth-data.json").read_text(encoding="utf-8")
    for token_id, token in tokens:
        digest = hashlib.sha256(token.encode()).hexdigest()
        token_hash, revoked, used, _, same_user, ended = arrived[token_id]
        assert (token_hash, revoked, used, same_user, ended) == (digest, True, None, True, True)
        assert token not in whole
    assert len({row[3] for row in arrived.values()}) == len(tokens) > 0

    switches = imported.fetch(
        "mfe_poc2",
        """SELECT id, (preferences->>'notifications')::boolean FROM user_profiles
           WHERE jsonb_typeof(preferences->'notifications') = 'boolean'""",
    )
    assert switches
    for profile_id, wanted in switches:
        [(found,)] = imported.fetch(
            "profile_db",
            f"SELECT preferences->'notifications' FROM user_profiles WHERE id = '{profile_id}'",
        )
        assert found == {"email": wanted, "push": wanted, "sms": wanted}
    assert imported.fetch(
        "mfe_poc2", "SELECT id, action, ip_address, created_at FROM audit_logs ORDER BY id"
    ) == imported.fetch(
        "admin_db",
        "SELECT id, action, ip_address, created_at::timestamp(3) FROM audit_logs ORDER BY id",
    )
    assert all(
        isinstance(row["amount"], str) and row["amount"][-3] == "."
        for row in document(imported, "payments")["payments"]
    )


def test_r9_12_no_event_is_published(imported: Place) -> None:
    """No outbox has a row, and the copies are there nevertheless."""
    for service in SERVICES:
        assert imported.fetch(f"{service}_db", "SELECT * FROM outbox") == []
    legacy = imported.fetch("mfe_poc2", "SELECT id, lower(email), name FROM users ORDER BY id")
    for service in ("admin", "payments"):
        copies = imported.fetch(f"{service}_db", "SELECT id, email, name FROM users ORDER BY id")
        assert copies == legacy


def test_r9_9_a_second_import_changes_nothing(imported: Place) -> None:
    """Not even its own notes."""
    before = {service: imported.picture(service) for service in SERVICES}
    done(imported, "export")

    done(imported, "import", "--no-backup")

    assert {service: imported.picture(service) for service in SERVICES} == before


@pytest.mark.parametrize(
    ("service", "damage", "title"),
    [
        ("auth", "UPDATE users SET password_hash = 'x' || password_hash", "Users"),
        ("auth", "UPDATE refresh_tokens SET is_revoked = false", "Refresh Tokens"),
        ("payments", "UPDATE payments SET amount = amount + 0.01", "Payments"),
        ("payments", "UPDATE payment_transactions SET status_message = 'Payment.'",
         "Payment Transactions"),
        ("payments", "UPDATE users SET email = 'x' || email", "Users (copy of payments)"),
        ("admin", "UPDATE users SET role = 'ADMIN'", "Users (copy of admin)"),
        ("admin", """UPDATE system_config SET value = '"x"'""", "System Config"),
        ("profile", "UPDATE user_profiles SET bio = 'x'", "User Profiles"),
        ("profile", "DELETE FROM user_profiles", "User Profiles"),
    ],
)  # fmt: skip
def test_r9_10_one_changed_row_is_found(
    imported: Place, service: str, damage: str, title: str
) -> None:
    """By entity and id, and only that one."""
    table = damage.split()[2 if damage.startswith("DELETE") else 1]
    key = "key" if table == "system_config" else "id"
    more = " AND role <> 'ADMIN'" if "'ADMIN'" in damage else ""
    [(row_id,)] = imported.fetch(
        f"{service}_db",
        f"SELECT max({key}) FROM {table} WHERE {key} LIKE '%' {more}"
        + (" AND key LIKE 'ui%'" if key == "key" else ""),
    )
    done(imported, "validate")
    assert imported.change(f"{service}_db", f"{damage} WHERE {key} = '{row_id}'") == 1

    finished = imported.migrate("validate", "--json")

    assert finished.returncode == 1
    answer = json.loads(finished.stdout)
    assert answer["valid"] is False
    assert [(one["entity"], one["ids"]) for one in answer["entities"] if not one["valid"]] == [
        (title, [row_id])
    ]
    assert f"{title} {row_id}:" in imported.migrate("validate", service).stderr


def test_r9_10_one_changed_audit_row_is_found(imported: Place) -> None:
    """Even there, where a change needs the superuser's violence."""
    imported.change(
        "admin_db",
        """ALTER TABLE audit_logs DISABLE TRIGGER ALL;
           UPDATE audit_logs SET user_agent = user_agent || ' '
           WHERE id = (SELECT max(id) FROM audit_logs);
           ALTER TABLE audit_logs ENABLE TRIGGER ALL""",
    )
    finished = imported.migrate("validate", "admin", "--json")
    assert finished.returncode == 1
    assert [one["entity"] for one in json.loads(finished.stdout)["entities"] if one["ids"]] == [
        "Audit Logs"
    ]


def test_r9_14_a_backup_restores(place: Place) -> None:
    """Five dumps for the owner only; one of them brings its database back as it was."""
    done(place, "export")
    done(place, "import", "--no-backup")
    before = place.picture("payments")
    done(place, "backup")
    [folder] = (place.folder / DATA).glob("backup-*")
    names = {"legacy", *(f"{service}_db" for service in SERVICES)}
    assert {path.name for path in folder.iterdir()} == {
        "backup.json",
        *(f"{name}.dump" for name in names),
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())

    done(place, "rollback", "payments", "--yes")
    restore(place, "payments", folder / "payments_db.dump")

    assert place.picture("payments") == before
    done(place, "validate", "payments")


def restore(place: Place, service: str, dump: Path) -> None:
    """As the command's help tells it, into an empty database."""
    name = sql.Identifier(f"{service}_db")
    place.cluster.run(
        sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name),
        sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(f"{service}_owner")),
    )
    subprocess.run(
        [
            str(_program().with_name("pg_restore")),
            "--no-owner",
            "-d",
            owner_url(place.cluster, service),
            str(dump),
        ],
        check=True,
        capture_output=True,
        env={"PATH": place.environ["PATH"]},
    )


def test_r9_14_status_follows_every_step(place: Place) -> None:
    """No, then when and how many, then no again."""
    said = done(place, "status")
    assert said.count("  no\n") == 12
    assert "backup     none" in said

    done(place, "backup")
    done(place, "export")
    done(place, "import")
    done(place, "validate")
    said = done(place, "status")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert f"backup     {today}" in said
    assert "paymentCount 56" in said
    assert "payments 56" in said
    assert "Payments 56" in said

    done(place, "rollback", "payments", "--yes")
    assert done(place, "status").split("payments\n")[1].split("admin\n")[0].count("  no\n") == 2
