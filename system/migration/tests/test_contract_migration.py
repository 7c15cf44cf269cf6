"""9.1 and 9.2 as an operator sees them: what is read, what each command takes, writes and says."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from system.migration.domain.entities import SERVICES
from system.migration.tests.conftest import Place

pytestmark = pytest.mark.platform

LEGACY = {
    "users": "id email password_hash name role email_verified created_at updated_at",
    "refresh_tokens": "id user_id token expires_at created_at",
    "payments": "id sender_id recipient_id amount currency status type description"
    " psp_transaction_id psp_status failure_reason metadata completed_at created_at updated_at",
    "payment_transactions": "id payment_id status status_message psp_transaction_id metadata"
    " created_at",
    "audit_logs": "id user_id action resource_type resource_id details ip_address user_agent"
    " created_at",
    "system_config": "key value description updated_at updated_by",
    "user_profiles": "id user_id avatar_url phone address bio preferences created_at updated_at",
}
# A legacy database as its own programs may have made it: the same columns by other types.
ENUMS = """
CREATE TYPE "UserRole" AS ENUM ('ADMIN', 'CUSTOMER', 'VENDOR');
CREATE TYPE "PaymentStatus" AS ENUM ('pending', 'processing', 'completed', 'failed', 'cancelled');
CREATE TYPE "PaymentType" AS ENUM ('instant', 'scheduled', 'recurring');
ALTER TABLE users ALTER role TYPE "UserRole" USING role::"UserRole";
ALTER TABLE payments ALTER status DROP DEFAULT,
    ALTER status TYPE "PaymentStatus" USING status::"PaymentStatus",
    ALTER type TYPE "PaymentType" USING type::"PaymentType";
ALTER TABLE payment_transactions
    ALTER status TYPE "PaymentStatus" USING status::"PaymentStatus";
"""
MICROSECONDS = """
ALTER TABLE payments ALTER created_at TYPE timestamp, ALTER updated_at TYPE timestamp;
UPDATE payments SET created_at = created_at + interval '0.0009996 s',
    updated_at = updated_at + interval '0.0005 s';
"""
OTHER_TEXTS = """
ALTER TABLE users ALTER email TYPE varchar(255), ALTER name TYPE varchar(255);
ALTER TABLE audit_logs ALTER details TYPE json, ALTER action TYPE varchar(64);
"""


def done(place: Place, *arguments: str) -> str:
    """Run the command, which must succeed; returns what it printed."""
    finished = place.migrate(*arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_r9_1_the_legacy_database_is_the_contracted_one(place: Place) -> None:
    """Its columns, times without zone, the default currency, and some switches that are one."""
    rows = place.fetch(
        "mfe_poc2",
        """SELECT table_name, column_name, data_type, column_default
           FROM information_schema.columns WHERE table_schema = 'public'
           ORDER BY ordinal_position""",
    )

    seen: dict[str, list[str]] = {}
    for table, column, _, _ in rows:
        seen.setdefault(table, []).append(column)
    assert seen == {table: names.split() for table, names in LEGACY.items()}
    kinds = {(table, column): kind for table, column, kind, _ in rows}
    assert {kind for (_, column), kind in kinds.items() if column.endswith("_at")} == {
        "timestamp without time zone"
    }
    assert ("payments", "currency", "'USD'::bpchar") in {
        (table, column, default) for table, column, _, default in rows
    }
    whole = "SELECT count(*) FROM user_profiles WHERE jsonb_typeof(preferences->'notifications')"
    assert place.fetch("mfe_poc2", f"{whole} = 'boolean'") > [(0,)]
    assert place.fetch("mfe_poc2", f"{whole} = 'object'") > [(0,)]
    assert (
        place.fetch("mfe_poc2", "SELECT 1 FROM users WHERE password_hash !~ '^\\$2[aby]\\$'") == []
    )


@pytest.mark.parametrize("other", [ENUMS, MICROSECONDS, OTHER_TEXTS], ids=["enums", "us", "texts"])
def test_r9_1_the_same_columns_by_other_types_go_the_whole_way(place: Place, other: str) -> None:
    """The contract names columns and few types: what their programs stored arrives and agrees."""
    place.change("mfe_poc2", other)

    done(place, "export")
    done(place, "import", "--no-backup")

    done(place, "validate")
    assert place.fetch("payments_db", "SELECT count(*) FROM payments") == [(56,)]


def test_r9_2_export_writes_one_file_or_all(place: Place) -> None:
    """`D/<service>-data.json` for a service named, one each without; D is `migration-data`."""
    done(place, "export", "payments", "--dir", "elsewhere")
    assert files(place, "elsewhere") == {"payments-data.json"}

    done(place, "export")

    assert files(place, "migration-data") == {f"{service}-data.json" for service in SERVICES}
    assert files(place, "elsewhere") == {"payments-data.json"}


def test_r9_3_r9_4_r9_5_a_service_at_a_time(place: Place) -> None:
    """From its folder in, compared and out again; the others stay as they are."""
    done(place, "export", "--dir", "d")
    empty = {service: place.picture(service) for service in SERVICES}

    for service in SERVICES:
        others = {name: place.picture(name) for name in SERVICES if name != service}
        missing = json.loads(place.migrate("validate", service, "--dir", "d", "--json").stdout)
        assert missing["valid"] is False
        assert place.migrate("validate", service, "--dir", "d").returncode == 1

        done(place, "import", service, "--dir", "d", "--no-backup")

        assert others == {name: place.picture(name) for name in others}
        said = json.loads(done(place, "validate", service, "--dir", "d", "--json"))
        assert said["valid"] is True
        assert {one["service"] for one in said["entities"]} == {service}
        assert all(one["found"] == one["expected"] > 0 for one in said["entities"])
        assert "DIFFERS" not in done(place, "validate", service, "--dir", "d")

    for service in reversed(SERVICES):
        others = {name: place.picture(name) for name in SERVICES if name != service}
        assert "removed: " in done(place, "rollback", service, "--yes")
        assert others == {name: place.picture(name) for name in others}
    assert {service: place.picture(service) for service in SERVICES} == empty


@pytest.mark.parametrize(
    "wrong",
    [
        ("export", "gateway"),
        ("import", "gateway"),
        ("validate", "--dir"),
        ("rollback",),
        ("rollback", "gateway", "--yes"),
    ],
    ids=" ".join,
)
def test_r9_2_to_r9_5_wrong_usage_does_nothing(place: Place, wrong: tuple[str, ...]) -> None:
    """2, and a word about it."""
    before = {service: place.picture(service) for service in SERVICES}

    finished = place.migrate(*wrong)

    assert finished.returncode == 2
    assert f"bin/migrate {wrong[0]} --help`" in finished.stderr
    assert {service: place.picture(service) for service in SERVICES} == before
    assert not (place.folder / "migration-data").exists()


def test_r9_8_a_checksum_is_that_of_the_row_in_its_new_place(place: Place) -> None:
    """Computed here anew from what lies in the database after the import."""
    done(place, "export")
    done(place, "import", "--no-backup")
    moment = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    created, updated, completed = (
        moment.format(name) for name in ("created_at", "updated_at", "completed_at")
    )
    rows = {
        ("profile", "userProfiles"): place.fetch(
            "profile_db",
            f"""SELECT jsonb_build_object('id', id, 'userId', user_id, 'avatarUrl', avatar_url,
                'phone', phone, 'address', address, 'bio', bio, 'preferences', preferences,
                'createdAt', {created}, 'updatedAt', {updated}) FROM user_profiles""",
        ),
        ("payments", "payments"): place.fetch(
            "payments_db",
            f"""SELECT jsonb_build_object('id', id, 'senderId', sender_id, 'recipientId',
                recipient_id, 'amount', amount::text, 'currency', currency, 'status', status,
                'type', type, 'description', description, 'pspTransactionId', psp_transaction_id,
                'pspStatus', psp_status, 'failureReason', failure_reason, 'metadata', metadata,
                'completedAt', {completed}, 'createdAt', {created}, 'updatedAt', {updated})
                FROM payments""",
        ),
    }
    for (service, entity), found in rows.items():
        path = place.folder / "migration-data" / f"{service}-data.json"
        sums = json.loads(path.read_text(encoding="utf-8"))["metadata"]["checksums"][entity]

        assert sums == {row["id"]: checksum(row) for (row,) in found}
        assert sums


def checksum(row: Any) -> str:
    """SHA-256 of canonical JSON: keys sorted, no blanks, UTF-8, nulls kept."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def files(place: Place, folder: str) -> set[str]:
    """The names in a folder of the place."""
    return {path.name for path in (place.folder / folder).iterdir()}
