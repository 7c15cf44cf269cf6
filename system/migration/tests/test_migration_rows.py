"""Rows: how they are changed, what is refused, and their checksums (R9.7–R9.9)."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from system.migration.domain.canonical import Inexact, canonical, checksum, parse
from system.migration.domain.entities import (
    PAYMENTS,
    SYSTEM_CONFIG,
    USER_PROFILES,
    USERS,
    Entity,
    files_of,
)
from system.migration.domain.row_rules import faults, session_of, transformed

ID = "3f2b8c1e-0d4a-4b6f-9a51-0c7d2e8f9a10"
TIME = "2026-01-31T12:00:00.000Z"
USER = {
    "id": ID,
    "email": "a@example.com",
    "passwordHash": "$2b$10$x",
    "name": "A",
    "role": "ADMIN",
    "status": "active",
    "emailVerified": True,
    "version": 1,
    "createdAt": TIME,
    "updatedAt": TIME,
}
PAYMENT = {
    "id": ID,
    "senderId": ID,
    "recipientId": None,
    "amount": "12.50",
    "currency": "USD",
    "status": "pending",
    "type": "instant",
    "description": None,
    "pspTransactionId": None,
    "pspStatus": None,
    "failureReason": None,
    "metadata": None,
    "completedAt": None,
    "createdAt": TIME,
    "updatedAt": TIME,
}
PROFILE: dict[str, Any] = {
    "id": ID,
    "userId": ID,
    "avatarUrl": None,
    "phone": None,
    "address": None,
    "bio": None,
    "preferences": {},
    "createdAt": TIME,
    "updatedAt": TIME,
}
SETTING = {"key": "a", "value": None, "description": None, "updatedAt": TIME, "updatedBy": None}


def test_r9_8_canonical_json_has_sorted_keys_and_no_blanks() -> None:
    """R9.8: also inside, in UTF-8, nulls kept; the checksum is SHA-256 of it."""
    text = canonical({"b": None, "a": {"ü": "é\n𝄞", "c": [1, 1.5, True]}})
    assert text == '{"a":{"c":[1,1.5,true],"ü":"é\\n𝄞"},"b":null}'
    assert checksum(text) == hashlib.sha256(text.encode("utf-8")).hexdigest()


@pytest.mark.parametrize("text", ["1.5", "12.50", "1e3", "0.1", "-0.0", "123456789.123"])
def test_numbers_that_a_float_carries_are_read(text: str) -> None:
    """With the value they had."""
    assert parse(text) == float(text)


@pytest.mark.parametrize("text", ["0.12345678901234567890", "1.5e400", "9007199254740993.5"])
def test_numbers_that_a_float_would_change_are_refused(text: str) -> None:
    """Rather than altered in silence."""
    with pytest.raises(Inexact, match=re.escape(text)):
        parse(f"[{text}]")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("A.B@Example.COM", "a.b@example.com"), ("  x@example.com ", "x@example.com")],
)
def test_r1_20_emails_are_trimmed_and_lowered(given: str, expected: str) -> None:
    """R9.7, R1.20."""
    assert transformed(USERS, {**USER, "email": given})["email"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [("12.5", "12.50"), ("12", "12.00"), ("12.500", "12.50"), ("12.345", "12.345"), (None, None)],
)
def test_amounts_have_two_decimals(given: Any, expected: Any) -> None:
    """R9.7; what would have to be rounded stays, and is refused at the import."""
    assert transformed(PAYMENTS, {**PAYMENT, "amount": given})["amount"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"notifications": True}, {"notifications": {"email": True, "push": True, "sms": True}}),
        (
            {"notifications": False, "theme": "dark"},
            {"notifications": {"email": False, "push": False, "sms": False}, "theme": "dark"},
        ),
        ({"notifications": {"email": True}}, {"notifications": {"email": True}}),
        ({"notifications": 1}, {"notifications": 1}),
        (None, {}),
        ({}, {}),
    ],
)
def test_one_switch_becomes_three(given: Any, expected: Any) -> None:
    """R9.7: a boolean only."""
    row = transformed(USER_PROFILES, {**PROFILE, "preferences": given})
    assert row["preferences"] == expected


def test_a_token_always_gets_the_same_session() -> None:
    """R9.7: one of its own, in the form of R0.4."""
    assert session_of(ID) == session_of(ID) != session_of(ID[::-1])
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", session_of(ID)
    )


@pytest.mark.parametrize(
    ("entity", "row"),
    [(USERS, USER), (PAYMENTS, PAYMENT), (USER_PROFILES, PROFILE), (SYSTEM_CONFIG, SETTING)],
)
def test_good_rows_have_no_fault(entity: Entity, row: dict[str, Any]) -> None:
    """So that the table of bad ones means something."""
    assert list(faults(entity, row)) == []


@pytest.mark.parametrize(
    ("entity", "row", "key", "value"),
    [
        (USERS, USER, "id", "1"),
        (USERS, USER, "id", ID.upper()),
        (USERS, USER, "email", "nobody"),
        (USERS, USER, "email", "a@" + "b" * 255),
        (USERS, USER, "name", None),
        (USERS, USER, "name", "a\0b"),
        (USERS, USER, "role", "admin"),
        (USERS, USER, "role", "or"),
        (USERS, USER, "status", "deleted"),
        (USERS, USER, "emailVerified", 1),
        (USERS, USER, "version", True),
        (USERS, USER, "createdAt", "2026-01-31T12:00:00Z"),
        (PAYMENTS, PAYMENT, "amount", "0.00"),
        (PAYMENTS, PAYMENT, "amount", "-1.00"),
        (PAYMENTS, PAYMENT, "amount", "1.5"),
        (PAYMENTS, PAYMENT, "amount", 1.5),
        (PAYMENTS, PAYMENT, "amount", "10000000000.00"),
        (PAYMENTS, PAYMENT, "currency", "usd"),
        (PAYMENTS, PAYMENT, "senderId", None),
        (PAYMENTS, PAYMENT, "type", "once"),
        (USER_PROFILES, PROFILE, "preferences", []),
        (USER_PROFILES, PROFILE, "preferences", None),
        (SYSTEM_CONFIG, SETTING, "key", None),
        (SYSTEM_CONFIG, SETTING, "surplus", 1),
    ],
)
def test_bad_rows_are_named(entity: Entity, row: dict[str, Any], key: str, value: Any) -> None:
    """R9.9: by id, with what is wrong; a password hash is never shown."""
    found = list(faults(entity, {**row, key: value}))
    assert len(found) == 1
    assert key in found[0].problem
    missing = {name: content for name, content in row.items() if name != key}
    if key in row:
        assert [fault.problem for fault in faults(entity, missing)] == [f"{key} is missing"]


def test_a_service_reads_its_file_and_that_of_the_users() -> None:
    """R9.9: the copies come from auth's file."""
    assert files_of(("auth",)) == ("auth",)
    assert files_of(("payments",)) == ("auth", "payments")
    assert files_of(("profile",)) == ("profile",)
    assert files_of(("auth", "payments", "admin", "profile")) == (
        "auth",
        "payments",
        "admin",
        "profile",
    )


PROJECT = Path(__file__).resolve().parents[3]
SCRIPTS = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))["scripts"]


def test_r9_2_to_r9_5_the_package_scripts_are_there() -> None:
    """One for each command that the contract names, and for its services."""
    services = ("auth", "payments", "admin", "profile")
    assert {
        "migrate:export",
        "migrate:import",
        "migrate:validate",
        *(f"migrate:export:{service}" for service in services),
        *(f"migrate:rollback:{service}" for service in services),
    } <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_package_script_is_a_command(name: str) -> None:
    """R0.17: in the form npm runs it, a shell in the project's folder."""
    done = subprocess.run(
        f"{SCRIPTS[name]} --help", shell=True, cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"bin/migrate {name.split(':')[1]}" in done.stdout
    # Its service is one: an unknown word would have been refused before the variables are.
    bare = subprocess.run(
        SCRIPTS[name], shell=True, cwd=PROJECT, capture_output=True, text=True, env={}
    )
    assert "invalid choice" not in bare.stderr
    assert "not set" in bare.stderr
