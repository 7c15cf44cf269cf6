"""Makes a legacy database (R9.1) of any size, always the same for a size.

    python -m system.migration.legacy.generator --rows 100000      # reads DATABASE_URL

Proportions are those of a payments system some years old: of 100 rows 4 are users, 5 refresh
tokens, 3 profiles, 14 payments, 39 steps of payments, the rest audit log, and a dozen settings.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from system.migration.adapters.progress import shown_on
from system.migration.legacy import people
from system.migration.ports import Progress

SEED: Final = 20260131
ROWS: Final = 100_000
_SMALLEST: Final = 200

_SCHEMA: Final = Path(__file__).with_name("schema.sql")
_CONSTRAINTS: Final = """
ALTER TABLE refresh_tokens ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE payments ADD FOREIGN KEY (sender_id) REFERENCES users;
ALTER TABLE payments ADD FOREIGN KEY (recipient_id) REFERENCES users;
ALTER TABLE payment_transactions
    ADD FOREIGN KEY (payment_id) REFERENCES payments ON DELETE CASCADE;
ALTER TABLE user_profiles ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
CREATE INDEX payments_sender_idx ON payments (sender_id);
CREATE INDEX payment_transactions_payment_idx ON payment_transactions (payment_id);
CREATE INDEX audit_logs_created_at_idx ON audit_logs (created_at);
ANALYZE;
"""
_OPENED: Final = datetime(2023, 2, 1)
_CLOSED: Final = datetime(2025, 12, 31, 23, 59, 59)
_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "pending": ("pending",),
    "processing": ("pending", "processing"),
    "completed": ("pending", "processing", "completed"),
    "failed": ("pending", "processing", "failed"),
    "cancelled": ("pending", "cancelled"),
}
_STATUS_WEIGHTS: Final = (6, 3, 78, 8, 5)


@dataclass(frozen=True)
class _Person:
    row_id: str
    since: datetime


def generate(url: str, rows: int, progress: Progress) -> dict[str, int]:
    """Make the tables and fill them; a database that has them already is emptied first.

    Args:
        url: of the legacy database, with a role that may make tables.
        rows: the least number of rows in all; at least 200.

    Returns:
        rows by table.
    """
    with psycopg.connect(url) as connection:
        connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(
                sql.SQL(", ").join(sql.Identifier(name) for name in _TABLES)
            )
        )
        connection.execute(_SCHEMA.read_text(encoding="utf-8").encode())
        counts: dict[str, int] = {}
        everybody: list[_Person] = []
        for table, source in _tables(rows, everybody, counts):
            with progress.task(f"generate {table}") as task:
                counts[table] = _fill(connection, table, source)
                task.advance(counts[table])
        connection.execute(_CONSTRAINTS.encode())
    return counts


_TABLES: Final = (
    "users",
    "refresh_tokens",
    "user_profiles",
    "payments",
    "payment_transactions",
    "system_config",
    "audit_logs",
)


def _tables(
    rows: int, everybody: list[_Person], counts: dict[str, int]
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    payments = int(rows * 0.14)
    yield "users", _users(max(20, int(rows * 0.04)), everybody)
    yield "refresh_tokens", _refresh_tokens(int(rows * 0.05), everybody)
    yield "user_profiles", _profiles(everybody)
    yield "payments", (payment for payment, _ in _payments(payments, everybody))
    yield (
        "payment_transactions",
        (step for _, steps in _payments(payments, everybody) for step in steps),
    )
    yield "system_config", _settings()
    yield "audit_logs", _audit_logs(max(1, rows - sum(counts.values())), everybody)


def _fill(connection: psycopg.Connection, table: str, source: Iterable[dict[str, Any]]) -> int:
    count = 0
    columns: Sequence[str] = ()
    source = iter(source)
    first = next(source)
    columns = tuple(first)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    )
    with connection.cursor().copy(statement) as copy:
        for row in _chained(first, source):
            copy.write_row([row[name] for name in columns])
            count += 1
    return count


def _chained(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def _luck(kind: str, number: int = 0) -> random.Random:
    """Chance that is the same for the same thing, however often and in whatever order."""
    return random.Random(f"{SEED}:{kind}:{number}")


def _uuid(luck: random.Random) -> str:
    digits = f"{luck.getrandbits(128):032x}"
    variant = "89ab"[luck.getrandbits(2)]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _moment(luck: random.Random, since: datetime, until: datetime = _CLOSED) -> datetime:
    # More of them as the years go by.
    share = max(luck.random(), luck.random())
    whole = (since + (until - since) * share).replace(tzinfo=UTC)
    return whole.replace(microsecond=whole.microsecond // 1000 * 1000, tzinfo=None)


def _address(luck: random.Random) -> str:
    return f"10.{luck.randrange(256)}.{luck.randrange(256)}.{luck.randrange(1, 255)}"


def _users(number: int, everybody: list[_Person]) -> Iterator[dict[str, Any]]:
    luck = _luck("users")
    for index in range(number):
        first, last = luck.choice(people.FIRST), luck.choice(people.LAST)
        role = luck.choices(("CUSTOMER", "VENDOR", "ADMIN"), (87, 12, 1))[0]
        name = f"{last} {luck.choice(people.SHOPS)}" if role == "VENDOR" else f"{first} {last}"
        local = f"{_plain(first)}.{_plain(last)}.{index}"
        email = f"{local}@{luck.choice(people.MAIL_DOMAINS)}"
        if luck.random() < 0.05:
            email = email.title()  # the old application kept what people typed
        created = _moment(luck, _OPENED)
        person = _Person(_uuid(luck), created)
        everybody.append(person)
        yield {
            "id": person.row_id,
            "email": email,
            "password_hash": luck.choice(people.PASSWORD_HASHES),
            "name": name,
            "role": role,
            "email_verified": luck.random() < 0.9,
            "created_at": created,
            "updated_at": _moment(luck, created),
        }


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isascii() and sign.isalpha())


def _refresh_tokens(number: int, everybody: list[_Person]) -> Iterator[dict[str, Any]]:
    luck = _luck("tokens")
    for _ in range(number):
        person = luck.choice(everybody)
        created = _moment(luck, person.since)
        row_id = _uuid(luck)
        yield {
            "id": row_id,
            "user_id": person.row_id,
            "token": _token(luck, person.row_id, row_id, created),
            "expires_at": created + timedelta(days=7),
            "created_at": created,
        }


def _token(luck: random.Random, user_id: str, row_id: str, created: datetime) -> str:
    head = {"alg": "HS256", "typ": "JWT"}
    claims = {"sub": user_id, "jti": row_id, "iat": int(created.replace(tzinfo=UTC).timestamp())}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (head, claims)]
    return ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, luck.randbytes(32))
    )


def _profiles(everybody: list[_Person]) -> Iterator[dict[str, Any]]:
    for number, person in enumerate(everybody):
        luck = _luck("profile", number)
        if number and luck.random() < 0.15:
            continue  # never opened the page
        created = _moment(luck, person.since)
        yield {
            "id": _uuid(luck),
            "user_id": person.row_id,
            "avatar_url": f"https://img.example.org/{number}.png" if luck.random() < 0.3 else None,
            "phone": f"+44 20 {luck.randrange(10**7):07d}" if luck.random() < 0.6 else None,
            "address": f"{luck.randrange(1, 200)} {luck.choice(people.STREETS)}, "
            f"{luck.choice(people.CITIES)}"
            if luck.random() < 0.5
            else None,
            "bio": f"{luck.choice(people.CITIES)}. Cycles,\nreads “slowly”."
            if luck.random() < 0.2
            else None,
            "preferences": _json(_preferences(luck)),
            "created_at": created,
            "updated_at": _moment(luck, created),
        }


def _preferences(luck: random.Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if luck.random() < 0.7:
        chosen["theme"] = luck.choice(("light", "dark", "system"))
    if luck.random() < 0.5:
        chosen["language"] = luck.choice(("en", "de", "pt-BR", "hi"))
    kind = luck.random()
    if kind < 0.4:
        chosen["notifications"] = luck.random() < 0.7  # one switch for everything
    elif kind < 0.8:
        chosen["notifications"] = {
            channel: luck.random() < 0.5 for channel in ("email", "push", "sms")
        }
    return chosen


def _payments(
    number: int, everybody: list[_Person]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each payment with its steps; asked twice it says the same, so that nothing is kept."""
    for index in range(number):
        luck = _luck("payment", index)
        sender, recipient = luck.choice(everybody), luck.choice(everybody)
        created = _moment(luck, max(sender.since, recipient.since))
        status = luck.choices(tuple(_PATHS), _STATUS_WEIGHTS)[0]
        psp = f"psp_{luck.getrandbits(64):016x}" if status != "pending" else None
        row_id = _uuid(luck)
        steps: list[dict[str, Any]] = []
        moment = created
        for step in _PATHS[status]:
            steps.append(
                {
                    "id": _uuid(luck),
                    "payment_id": row_id,
                    "status": step,
                    "status_message": None if step == "pending" else f"Payment {step}",
                    "psp_transaction_id": None if step == "pending" else psp,
                    "metadata": _json({"attempt": 1}) if step == "processing" else None,
                    "created_at": moment,
                }
            )
            moment += timedelta(milliseconds=luck.randrange(200, 90_000_000))
        ended = steps[-1]["created_at"]
        yield (
            {
                "id": row_id,
                "sender_id": sender.row_id,
                "recipient_id": recipient.row_id
                if recipient is not sender and luck.random() < 0.95
                else None,
                "amount": f"{min(luck.lognormvariate(4.0, 1.4) + 0.01, 9_999_999.0):.2f}",
                "currency": luck.choices(("USD", "EUR", "INR", "GBP"), (70, 12, 13, 5))[0],
                "status": status,
                "type": luck.choices(("instant", "scheduled", "recurring"), (80, 12, 8))[0],
                "description": f"{luck.choice(people.PURPOSES)} {index}"
                if luck.random() < 0.8
                else None,
                "psp_transaction_id": psp,
                "psp_status": status.upper() if psp else None,
                "failure_reason": luck.choice(people.FAILURES) if status == "failed" else None,
                "metadata": _json({"channel": luck.choice(("web", "app")), "rate": 1.0825})
                if luck.random() < 0.25
                else None,
                "completed_at": ended if status == "completed" else None,
                "created_at": created,
                "updated_at": ended,
            },
            steps,
        )


def _settings() -> Iterator[dict[str, Any]]:
    luck = _luck("settings")
    for key, value, description in people.SETTINGS:
        yield {
            "key": key,
            "value": _json(value),
            "description": description,
            "updated_at": _moment(luck, _OPENED),
            "updated_by": None,
        }


def _audit_logs(number: int, everybody: list[_Person]) -> Iterator[dict[str, Any]]:
    luck = _luck("audit")
    weights = [weight for _, _, weight in people.ACTIONS]
    for _ in range(number):
        person = luck.choice(everybody)
        action, resource, _ = luck.choices(people.ACTIONS, weights)[0]
        known = action != "LOGIN_FAILED"
        yield {
            "id": _uuid(luck),
            "user_id": person.row_id if known else None,
            "action": action,
            "resource_type": resource,
            "resource_id": person.row_id if resource == "user" and known else _uuid(luck),
            "details": _json({"ok": known, "ms": luck.randrange(5, 900)})
            if luck.random() < 0.4
            else None,
            "ip_address": _address(luck),
            "user_agent": luck.choice(people.AGENTS),
            "created_at": _moment(luck, person.since),
        }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Fill the database of DATABASE_URL; exit codes as R0.17."""
    parser = argparse.ArgumentParser(
        prog="python -m system.migration.legacy.generator",
        description="Make a legacy database, always the same for a size. It is emptied first.",
        epilog="environment: DATABASE_URL, such as postgresql://role:password@host:5436/mfe_poc2",
    )
    parser.add_argument("--rows", type=int, default=ROWS, help=f"at least so many ({ROWS})")
    options = parser.parse_args(arguments)
    if options.rows < _SMALLEST:
        parser.error(f"--rows is {options.rows}, expected {_SMALLEST} or more")
    url = environ.get("DATABASE_URL", "")
    if not url:
        parser.error("DATABASE_URL is not set; expected the legacy database's URL")
    try:
        counts = generate(url, options.rows, shown_on())
    except psycopg.Error as error:
        print(f"the legacy database did not serve us: {error}", file=sys.stderr)
        return 1
    print(f"{sum(counts.values())} rows: {', '.join(f'{n} {t}' for t, n in counts.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
