"""How a legacy row must look after the import, and what the target would not take (R9.7, R9.9)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from system.migration.domain.entities import (
    PAYMENTS,
    REFRESH_TOKENS,
    USER_PROFILES,
    USERS,
    Entity,
    Form,
)
from system.migration.domain.errors import RowFault

Row = dict[str, Any]

CHANNELS: Final = ("email", "push", "sms")  # R1.151

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_AMOUNT: Final = re.compile(r"\d{1,10}\.\d\d")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_CENT: Final = Decimal("0.01")
_EMAIL_CHARACTERS: Final = 255


def transformed(entity: Entity, row: Row) -> Row:
    """A row as it must look after the import, from what the legacy database says.

    What cannot be brought into form stays as it is; `faults` names it when it is imported.
    """
    change = _CHANGES.get(entity.name)
    return change(row) if change else row


def faults(entity: Entity, row: Mapping[str, Any]) -> Iterator[RowFault]:
    """Why the target would not take a row, one fault for each value (section 2)."""
    rules = _RULES.get(entity.name) or _rules_of(entity)
    for key, fits, may_be_null, form in rules:
        value = row.get(key, _MISSING)
        if value is None and may_be_null:
            continue
        if value is _MISSING:
            yield RowFault(entity.name, _id_of(entity, row), f"{key} is missing")
        elif not fits(value):
            yield RowFault(
                entity.name,
                _id_of(entity, row),
                f"{key} is {_shown(key, value)}, expected {form.value}",
            )
    if len(row) > len(rules):
        for surplus in sorted(set(row) - {key for key, *_ in rules}):
            problem = f"has {surplus!r}, which no column takes"
            yield RowFault(entity.name, _id_of(entity, row), problem)


def session_of(token_id: str) -> str:
    """The id of the session that a legacy refresh token gets: always the same for a token (R9.7).

    Returns:
        a UUID of version 4 in form, drawn from the token's id instead of chance, so that a
        repeated export names the same session.
    """
    digits = bytearray(
        hashlib.sha256(f"session of refresh token {token_id}".encode()).digest()[:16]
    )
    digits[6] = digits[6] & 0x0F | 0x40
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _user(row: Row) -> Row:
    return {**row, "email": _normal_email(row["email"])}


def _normal_email(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value  # R1.20


def _refresh_token(row: Row) -> Row:
    return {**row, "tokenFamily": session_of(row["id"])}


def _payment(row: Row) -> Row:
    return {**row, "amount": _two_decimals(row["amount"])}


def _two_decimals(value: Any) -> Any:
    try:
        amount = Decimal(value)
        rounded = amount.quantize(_CENT)
    except (InvalidOperation, TypeError, ValueError):
        return value
    return str(rounded) if rounded == amount else value


def _profile(row: Row) -> Row:
    preferences = row["preferences"]
    if preferences is None:
        return {**row, "preferences": {}}
    if isinstance(preferences, dict) and isinstance(preferences.get("notifications"), bool):
        wanted = preferences["notifications"]
        channels = dict.fromkeys(CHANNELS, wanted)
        return {**row, "preferences": {**preferences, "notifications": channels}}
    return row


_CHANGES: Final[Mapping[str, Callable[[Row], Row]]] = {
    USERS.name: _user,
    REFRESH_TOKENS.name: _refresh_token,
    PAYMENTS.name: _payment,
    USER_PROFILES.name: _profile,
}


def _id_of(entity: Entity, row: Mapping[str, Any]) -> str:
    return str(row.get(entity.column(entity.key).key))


def _text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _one_of(form: Form) -> Callable[[Any], bool]:
    allowed = frozenset(re.findall(r"\w+", form.value)) - {"or"}
    return lambda value: isinstance(value, str) and value in allowed


def _is_amount(value: Any) -> bool:
    return _matches(_AMOUNT)(value) and Decimal(value) > 0


def _is_email(value: Any) -> bool:
    return _text(value) and "@" in value and len(value) <= _EMAIL_CHARACTERS


_FITS: Final[Mapping[Form, Callable[[Any], bool]]] = {
    Form.TEXT: _text,
    Form.EMAIL: _is_email,
    Form.ID: _matches(_UUID),
    Form.HASH: _matches(_HASH),
    Form.TIME: _matches(_TIME),
    Form.BOOLEAN: lambda value: isinstance(value, bool),
    Form.INTEGER: lambda value: isinstance(value, int) and not isinstance(value, bool),
    Form.AMOUNT: _is_amount,
    Form.CURRENCY: _matches(_CURRENCY),
    Form.JSON: lambda _value: True,
    Form.OBJECT: lambda value: isinstance(value, dict),
    Form.ROLE: _one_of(Form.ROLE),
    Form.USER_STATUS: _one_of(Form.USER_STATUS),
    Form.PAYMENT_STATUS: _one_of(Form.PAYMENT_STATUS),
    Form.PAYMENT_TYPE: _one_of(Form.PAYMENT_TYPE),
}


_Rule = tuple[str, Callable[[Any], bool], bool, Form]
_MISSING: Final = object()
# By name of the entity, made at first use: looked up for each of some 100,000 rows.
_RULES: Final[dict[str, tuple[_Rule, ...]]] = {}


def _rules_of(entity: Entity) -> tuple[_Rule, ...]:
    made = tuple(
        (
            column.key,
            _FITS[column.form],
            column.optional or column.form is Form.JSON,
            column.form,
        )
        for column in entity.columns
    )
    _RULES[entity.name] = made
    return made


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if key in ("passwordHash", "tokenHash"):
        return "something else"  # never in a terminal's history
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
