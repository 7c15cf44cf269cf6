"""What is migrated: every kind of row, its columns, its place before and after (R9.1, section 2).

`FILES` says what lies in which data file; `IMPORTS` in which order the rows go into which
database (R9.9); `COMPARISONS` what `validate` compares (R9.10).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

SERVICES: Final[tuple[str, ...]] = ("auth", "payments", "admin", "profile")


class Form(Enum):
    """How a value looks in a data file."""

    TEXT = "a text"
    EMAIL = "an e-mail address of at most 255 characters"
    ID = "a UUID in lower case"
    HASH = "64 hexadecimal digits"
    TIME = "a time such as 2026-01-31T12:00:00.000Z"
    BOOLEAN = "true or false"
    INTEGER = "a whole number"
    AMOUNT = "an amount such as 12.50, above 0 and below 10,000,000,000"
    CURRENCY = "three capital letters"
    JSON = "any JSON value"
    OBJECT = "a JSON object"
    ROLE = "ADMIN, CUSTOMER or VENDOR"
    USER_STATUS = "active or suspended"
    PAYMENT_STATUS = "pending, processing, completed, failed or cancelled"
    PAYMENT_TYPE = "instant, scheduled or recurring"


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a row.

    Attributes:
        key: its name in a data file (camelCase).
        form: how it looks.
        optional: may be null.
        legacy: SQL expression in the legacy database, where it is not the column of that name.
    """

    key: str
    form: Form = Form.TEXT
    optional: bool = False
    legacy: str | None = None

    @property
    def name(self) -> str:
        """Its name in the databases (snake_case)."""
        return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in self.key)


@dataclass(frozen=True, slots=True)
class Reference:
    """A column whose value names a row of another table of the same database."""

    column: str
    table: str


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of row.

    Attributes:
        name: its key in a data file.
        title: what people call it.
        count: its key among the counts of a data file's metadata.
        table: its table, in the legacy database and in the new one.
        columns: the row as it must look after the import.
        key: the column that names a row.
        unique: further columns whose values are unique.
        references: foreign keys within the new database.
    """

    name: str
    title: str
    count: str
    table: str
    columns: tuple[Column, ...]
    key: str = "id"
    unique: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """Columns that order the rows of a data file (R9.6)."""
        names = {column.name for column in self.columns}
        return ("created_at", self.key) if "created_at" in names else (self.key,)

    def column(self, name: str) -> Column:
        """The column of a name in the databases."""
        return next(column for column in self.columns if column.name == name)


_ID: Final = Column("id", Form.ID)
_CREATED: Final = Column("createdAt", Form.TIME)
_UPDATED: Final = Column("updatedAt", Form.TIME)

USERS: Final = Entity(
    "users",
    "Users",
    "userCount",
    "users",
    (
        _ID,
        Column("email", Form.EMAIL),
        Column("passwordHash"),
        Column("name"),
        Column("role", Form.ROLE),
        Column("status", Form.USER_STATUS, legacy="'active'"),
        Column("emailVerified", Form.BOOLEAN),
        Column("version", Form.INTEGER, legacy="1"),
        _CREATED,
        _UPDATED,
    ),
    unique=("email",),
)
REFRESH_TOKENS: Final = Entity(
    "refreshTokens",
    "Refresh Tokens",
    "tokenCount",
    "refresh_tokens",
    (
        _ID,
        Column("userId", Form.ID),
        # In the server, so that no token in the clear ever leaves it (R9.7).
        Column("tokenHash", Form.HASH, legacy="encode(sha256(convert_to(token, 'UTF8')), 'hex')"),
        Column("tokenFamily", Form.ID, legacy="''"),  # row_rules.session_of
        Column("isRevoked", Form.BOOLEAN, legacy="true"),
        Column("expiresAt", Form.TIME),
        _CREATED,
        Column("lastUsedAt", Form.TIME, optional=True, legacy="NULL::timestamp"),
    ),
    unique=("token_hash",),
    references=(Reference("user_id", "users"),),
)
PAYMENTS: Final = Entity(
    "payments",
    "Payments",
    "paymentCount",
    "payments",
    (
        _ID,
        Column("senderId", Form.ID),
        Column("recipientId", Form.ID, optional=True),
        Column("amount", Form.AMOUNT),
        Column("currency", Form.CURRENCY),
        Column("status", Form.PAYMENT_STATUS),
        Column("type", Form.PAYMENT_TYPE),
        Column("description", optional=True),
        Column("pspTransactionId", optional=True),
        Column("pspStatus", optional=True),
        Column("failureReason", optional=True),
        Column("metadata", Form.JSON, optional=True),
        Column("completedAt", Form.TIME, optional=True),
        _CREATED,
        _UPDATED,
    ),
    references=(Reference("sender_id", "users"), Reference("recipient_id", "users")),
)
PAYMENT_TRANSACTIONS: Final = Entity(
    "paymentTransactions",
    "Payment Transactions",
    "transactionCount",
    "payment_transactions",
    (
        _ID,
        Column("paymentId", Form.ID),
        Column("status", Form.PAYMENT_STATUS),
        Column("statusMessage", optional=True),
        Column("pspTransactionId", optional=True),
        Column("metadata", Form.JSON, optional=True),
        _CREATED,
    ),
    references=(Reference("payment_id", "payments"),),
)
AUDIT_LOGS: Final = Entity(
    "auditLogs",
    "Audit Logs",
    "auditLogCount",
    "audit_logs",
    (
        _ID,
        Column("eventId", optional=True, legacy="NULL"),
        Column("userId", optional=True),
        Column("action"),
        Column("resourceType", optional=True),
        Column("resourceId", optional=True),
        Column("details", Form.JSON, optional=True),
        Column("ipAddress", optional=True),
        Column("userAgent", optional=True),
        Column("correlationId", optional=True, legacy="NULL"),
        _CREATED,
    ),
)
SYSTEM_CONFIG: Final = Entity(
    "systemConfig",
    "System Config",
    "configCount",
    "system_config",
    (
        Column("key"),
        Column("value", Form.JSON),
        Column("description", optional=True),
        _UPDATED,
        Column("updatedBy", optional=True),
    ),
    key="key",
)
USER_PROFILES: Final = Entity(
    "userProfiles",
    "User Profiles",
    "profileCount",
    "user_profiles",
    (
        _ID,
        Column("userId", Form.ID),
        Column("avatarUrl", optional=True),
        Column("phone", optional=True),
        Column("address", optional=True),
        Column("bio", optional=True),
        Column("preferences", Form.OBJECT),
        _CREATED,
        _UPDATED,
    ),
    unique=("user_id",),
)

# R9.6: what lies in `<service>-data.json`.
FILES: Final[dict[str, tuple[Entity, ...]]] = {
    "auth": (USERS, REFRESH_TOKENS),
    "payments": (PAYMENTS, PAYMENT_TRANSACTIONS),
    "admin": (AUDIT_LOGS, SYSTEM_CONFIG),
    "profile": (USER_PROFILES,),
}


def _copy(*names: str) -> tuple[Column, ...]:
    return tuple(USERS.column(name) for name in names)


@dataclass(frozen=True, slots=True)
class Import:
    """Rows of one kind on their way into one database.

    Attributes:
        service: whose database.
        source: what the rows are in the data file of `file`.
        file: service whose data file has them.
        title: what people call them.
        columns: those of the target's table that are filled.
        unique: columns whose values are unique there.
    """

    service: str
    file: str
    source: Entity
    title: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...]

    @property
    def table(self) -> str:
        """The table in the target, and the word under which the import remembers its rows."""
        return self.source.table


def _own(service: str, entity: Entity) -> Import:
    return Import(service, service, entity, entity.title, entity.columns, entity.unique)


ADMIN_COPY: Final = Import(
    "admin",
    "auth",
    USERS,
    "Users (copy of admin)",
    tuple(column for column in USERS.columns if column.key != "passwordHash"),
    ("email",),
)
PAYMENTS_COPY: Final = Import(
    "payments",
    "auth",
    USERS,
    "Users (copy of payments)",
    _copy("id", "email", "name", "status", "version"),
    ("email",),
)

# R9.9: the order of an import.
IMPORTS: Final[tuple[Import, ...]] = (
    _own("auth", USERS),
    _own("auth", REFRESH_TOKENS),
    ADMIN_COPY,
    PAYMENTS_COPY,
    _own("payments", PAYMENTS),
    _own("payments", PAYMENT_TRANSACTIONS),
    _own("admin", AUDIT_LOGS),
    _own("admin", SYSTEM_CONFIG),
    _own("profile", USER_PROFILES),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `validate` compares of one kind of row in one database (R9.10).

    Attributes:
        rows: which rows.
        columns: what is compared of each.
    """

    rows: Import
    columns: tuple[Column, ...]


# Of a copy only what may not change by itself: its version and name follow events.
_COMPARED: Final = {
    ADMIN_COPY: _copy("id", "email", "name", "role"),
    PAYMENTS_COPY: _copy("id", "email"),
}
COMPARISONS: Final[tuple[Comparison, ...]] = tuple(
    Comparison(rows, _COMPARED.get(rows, rows.columns)) for rows in IMPORTS
)


def files_of(services: tuple[str, ...]) -> tuple[str, ...]:
    """The data files that an import into these services' databases reads, in order."""
    needed = {rows.file for rows in IMPORTS if rows.service in services}
    return tuple(service for service in SERVICES if service in needed)
