"""The types of the GraphQL schema (R10.1), each made from what REST gives."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NewType

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.scalar import ScalarDefinition

from system.gateway.entrypoints.graphql.session import Session

Info = strawberry.Info[Session, None]
Raw = Mapping[str, Any]

DateTime = NewType("DateTime", str)
Decimal = NewType("Decimal", str)
# A type alias would lose its name in the schema.
JSON = NewType("JSON", object)


def _as_it_is(value: Any) -> Any:
    return value


SCALARS: Final[dict[object, ScalarDefinition]] = {
    scalar: strawberry.scalar(name=name, serialize=_as_it_is, parse_value=_as_it_is)
    for scalar, name in ((DateTime, "DateTime"), (Decimal, "Decimal"), (JSON, "JSON"))
}


@strawberry.schema_directive(locations=[Location.FIELD_DEFINITION], name="auth")
class Auth:
    """A token is asked for."""


@strawberry.schema_directive(locations=[Location.FIELD_DEFINITION], name="admin")
class Admin:
    """The token of an ADMIN is asked for."""


@strawberry.enum
class UserRole(Enum):
    """R10.2: the REST values in capitals."""

    ADMIN = "ADMIN"
    CUSTOMER = "CUSTOMER"
    VENDOR = "VENDOR"


@strawberry.enum
class UserStatus(Enum):
    """R10.2."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@strawberry.enum
class PaymentStatus(Enum):
    """R10.2."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@strawberry.enum
class PaymentType(Enum):
    """R10.2."""

    INSTANT = "instant"
    SCHEDULED = "scheduled"
    RECURRING = "recurring"


@strawberry.type
class User:
    """R1.57."""

    id: strawberry.ID
    email: str
    name: str
    role: UserRole
    created_at: DateTime
    updated_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> User:
        """Make it from a user object."""
        return cls(
            id=raw["id"],
            email=raw["email"],
            name=raw["name"],
            role=UserRole(raw["role"]),
            created_at=raw["createdAt"],
            updated_at=raw["updatedAt"],
        )


@strawberry.type
class AdminUser:
    """R1.125."""

    id: strawberry.ID
    email: str
    name: str
    role: UserRole
    status: UserStatus
    created_at: DateTime
    updated_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> AdminUser:
        """Make it from an admin user object."""
        return cls(
            id=raw["id"],
            email=raw["email"],
            name=raw["name"],
            role=UserRole(raw["role"]),
            status=UserStatus(raw["status"]),
            created_at=raw["createdAt"],
            updated_at=raw["updatedAt"],
        )


@strawberry.type
class AuthResponse:
    """R1.58; the user of a refresh is looked up only if somebody asks."""

    raw: strawberry.Private[Raw]
    access_token: str
    refresh_token: str
    expires_in: str

    @strawberry.field
    async def user(self, info: Info) -> User:
        """Whose session it is."""
        found = self.raw.get("user")
        if found is None:
            found = await info.context.load_as(self.access_token, "/api/auth/me")
        return User.of(found)

    @classmethod
    def of(cls, raw: Raw) -> AuthResponse:
        """Make it from a session answer or a pair of tokens."""
        return cls(
            raw=raw,
            access_token=raw["accessToken"],
            refresh_token=raw["refreshToken"],
            expires_in=raw["expiresIn"],
        )


@strawberry.type
class Party:
    """R1.100."""

    id: strawberry.ID
    email: str

    @classmethod
    def of(cls, raw: Raw | None) -> Party | None:
        """Make it from a sender or recipient."""
        return None if raw is None else cls(id=raw["id"], email=raw["email"])


@strawberry.type
class PaymentTransaction:
    """R1.100."""

    id: strawberry.ID
    status: PaymentStatus
    status_message: str | None
    psp_transaction_id: str | None
    metadata: JSON | None
    created_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> PaymentTransaction:
        """Make it from an entry of `transactions`."""
        return cls(
            id=raw["id"],
            status=PaymentStatus(raw["status"]),
            status_message=raw["statusMessage"],
            psp_transaction_id=raw["pspTransactionId"],
            metadata=raw["metadata"],
            created_at=raw["createdAt"],
        )


@strawberry.type
class Payment:
    """R1.100; relations that the answer lacks are looked up only if somebody asks."""

    raw: strawberry.Private[Raw]
    id: strawberry.ID
    user_id: strawberry.ID
    sender_id: strawberry.ID
    recipient_id: strawberry.ID | None
    amount: Decimal
    currency: str
    status: PaymentStatus
    type: PaymentType
    description: str | None
    metadata: JSON | None
    psp_transaction_id: str | None
    psp_status: str | None
    failure_reason: str | None
    completed_at: DateTime | None
    created_at: DateTime
    updated_at: DateTime

    @strawberry.field
    async def sender(self, info: Info) -> Party | None:
        """Who pays."""
        return Party.of(await self._relation(info, "sender"))

    @strawberry.field
    async def recipient(self, info: Info) -> Party | None:
        """Who is paid."""
        return Party.of(await self._relation(info, "recipient"))

    @strawberry.field
    async def transactions(self, info: Info) -> list[PaymentTransaction]:
        """What happened, oldest first."""
        if "sender" in self.raw and "transactions" not in self.raw:
            raws = await info.context.load_history(self.id)
        else:
            raws = await self._relation(info, "transactions")
        return [PaymentTransaction.of(raw) for raw in raws]

    async def _relation(self, info: Info, name: str) -> Any:
        if name in self.raw:
            return self.raw[name]
        return (await info.context.load(f"/api/payments/{self.id}"))[name]

    @classmethod
    def of(cls, raw: Raw) -> Payment:
        """Make it from a payment object, with or without relations."""
        return cls(
            raw=raw,
            id=raw["id"],
            user_id=raw["senderId"],
            sender_id=raw["senderId"],
            recipient_id=raw["recipientId"],
            amount=raw["amount"],
            currency=raw["currency"],
            status=PaymentStatus(raw["status"]),
            type=PaymentType(raw["type"]),
            description=raw["description"],
            metadata=raw["metadata"],
            psp_transaction_id=raw["pspTransactionId"],
            psp_status=raw["pspStatus"],
            failure_reason=raw["failureReason"],
            completed_at=raw["completedAt"],
            created_at=raw["createdAt"],
            updated_at=raw["updatedAt"],
        )


@strawberry.type
class PageInfo:
    """R10.3."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class PaymentEdge:
    """R10.3."""

    node: Payment
    cursor: str


@strawberry.type
class PaymentConnection:
    """R10.3."""

    edges: list[PaymentEdge]
    page_info: PageInfo
    total_count: int


@strawberry.type
class AdminUserEdge:
    """R10.3."""

    node: AdminUser
    cursor: str


@strawberry.type
class AdminUserConnection:
    """R10.3."""

    edges: list[AdminUserEdge]
    page_info: PageInfo
    total_count: int


@strawberry.type
class Profile:
    """R1.144."""

    id: strawberry.ID
    user_id: strawberry.ID
    avatar_url: str | None
    phone: str | None
    address: str | None
    bio: str | None
    preferences: JSON
    created_at: DateTime
    updated_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> Profile:
        """Make it from a profile object."""
        return cls(
            id=raw["id"],
            user_id=raw["userId"],
            avatar_url=raw["avatarUrl"],
            phone=raw["phone"],
            address=raw["address"],
            bio=raw["bio"],
            preferences=raw["preferences"],
            created_at=raw["createdAt"],
            updated_at=raw["updatedAt"],
        )


@strawberry.type
class AuditLog:
    """R1.142; where REST has no actor (`""`) there is null."""

    id: strawberry.ID
    user_id: strawberry.ID | None
    action: str
    resource_type: str | None
    resource_id: str | None
    details: JSON | None
    ip_address: str | None
    user_agent: str | None
    created_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> AuditLog:
        """Make it from a row."""
        return cls(
            id=raw["id"],
            user_id=raw["userId"] or None,
            action=raw["action"],
            resource_type=raw["resourceType"],
            resource_id=raw["resourceId"],
            details=raw.get("details"),
            ip_address=raw.get("ipAddress"),
            user_agent=raw.get("userAgent"),
            created_at=raw["timestamp"],
        )


@strawberry.type
class AuditLogEdge:
    """R10.3."""

    node: AuditLog
    cursor: str


@strawberry.type
class AuditLogConnection:
    """R10.3."""

    edges: list[AuditLogEdge]
    page_info: PageInfo
    total_count: int


@strawberry.type
class SystemConfig:
    """R1.140."""

    key: str
    value: JSON
    description: str | None
    updated_at: DateTime

    @classmethod
    def of(cls, raw: Raw) -> SystemConfig:
        """Make it from an entry of the configuration."""
        return cls(
            key=raw["key"],
            value=raw["value"],
            description=raw["description"],
            updated_at=raw["updatedAt"],
        )


@strawberry.input
class LoginInput:
    """R1.60."""

    email: str
    password: str


@strawberry.input
class RegisterInput:
    """R1.59."""

    email: str
    password: str
    name: str


@strawberry.input
class PaginationInput:
    """R10.3."""

    first: int | None = strawberry.UNSET
    after: str | None = strawberry.UNSET
    last: int | None = strawberry.UNSET
    before: str | None = strawberry.UNSET


@strawberry.input
class PaymentFilter:
    """R1.110."""

    status: PaymentStatus | None = strawberry.UNSET
    type: PaymentType | None = strawberry.UNSET
    start_date: str | None = strawberry.UNSET
    end_date: str | None = strawberry.UNSET
    min_amount: Decimal | None = strawberry.UNSET
    max_amount: Decimal | None = strawberry.UNSET


@strawberry.input
class CreatePaymentInput:
    """R1.111."""

    type: PaymentType
    amount: Decimal
    description: str
    currency: str | None = strawberry.UNSET
    recipient_id: strawberry.ID | None = strawberry.UNSET
    recipient_email: str | None = strawberry.UNSET
    metadata: JSON | None = strawberry.UNSET


@strawberry.input
class UpdatePaymentInput:
    """R1.116."""

    type: PaymentType | None = strawberry.UNSET
    amount: Decimal | None = strawberry.UNSET
    currency: str | None = strawberry.UNSET
    description: str | None = strawberry.UNSET
    recipient_id: strawberry.ID | None = strawberry.UNSET
    recipient_email: str | None = strawberry.UNSET
    metadata: JSON | None = strawberry.UNSET


@strawberry.input
class UpdateProfileInput:
    """R1.146, R1.148."""

    phone: str | None = strawberry.UNSET
    address: str | None = strawberry.UNSET
    avatar_url: str | None = strawberry.UNSET
    bio: str | None = strawberry.UNSET
    preferences: JSON | None = strawberry.UNSET
