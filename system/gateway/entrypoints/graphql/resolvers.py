"""What each operation of the GraphQL schema does: the REST route it stands for (R10.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Final

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from system.gateway.domain.routes import Access
from system.gateway.entrypoints.graphql.connections import RestList, wanted
from system.gateway.entrypoints.graphql.session import header, name
from system.gateway.entrypoints.graphql.shapes import (
    JSON,
    Admin,
    AdminUser,
    AdminUserConnection,
    AdminUserEdge,
    AuditLog,
    AuditLogConnection,
    AuditLogEdge,
    Auth,
    AuthResponse,
    CreatePaymentInput,
    Info,
    LoginInput,
    PaginationInput,
    Payment,
    PaymentConnection,
    PaymentEdge,
    PaymentFilter,
    PaymentStatus,
    Profile,
    RegisterInput,
    SystemConfig,
    UpdatePaymentInput,
    UpdateProfileInput,
    User,
    UserRole,
)

_NEWEST_FIRST: Final = {"sort": "createdAt", "order": "desc"}


class _Guard(FieldExtension):
    """Judges the caller before anything of the field is looked at (R1.17, R10.4)."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: Any, **kwargs: Any
    ) -> Any:
        """Let the caller through, then go on."""
        await info.context.authorise(self._access)
        return await next_(source, info, **kwargs)


def _for_members(resolver: Callable[..., Awaitable[Any]]) -> StrawberryField:
    """A field that asks for a token, and says so in the schema."""
    return strawberry.field(resolver, directives=[Auth()], extensions=[_Guard(Access.TOKEN)])


def _for_admins(resolver: Callable[..., Awaitable[Any]]) -> StrawberryField:
    """A field that asks for the token of an ADMIN, and says so in the schema."""
    return strawberry.field(
        resolver, directives=[Auth(), Admin()], extensions=[_Guard(Access.ADMIN)]
    )


def _rest(value: object) -> Any:
    """A value of an argument as REST writes it."""
    return value.value if isinstance(value, Enum) else value


def _given(values: Mapping[str, object]) -> dict[str, Any]:
    """What was given and is not null: clients send null for what they leave out."""
    return {
        key: _rest(value)
        for key, value in values.items()
        if value is not strawberry.UNSET and value is not None
    }


def _changes(given: CreatePaymentInput | UpdatePaymentInput) -> dict[str, Any]:
    return _given(
        {
            "type": given.type,
            "amount": given.amount,
            "currency": given.currency,
            "description": given.description,
            "recipientId": given.recipient_id,
            "recipientEmail": given.recipient_email,
            "metadata": given.metadata,
        }
    )


@strawberry.type
class Query:
    """Reading."""

    @_for_members
    async def me(self, info: Info) -> User:
        """R1.62."""
        return User.of(await info.context.load("/api/auth/me"))

    @_for_members
    async def payment(self, info: Info, id: strawberry.ID) -> Payment | None:
        """R1.107."""
        return Payment.of(await info.context.load(f"/api/payments/{name(id)}"))

    @_for_members
    async def payments(
        self,
        info: Info,
        input: PaginationInput | None = strawberry.UNSET,
        filter: PaymentFilter | None = strawberry.UNSET,
    ) -> PaymentConnection:
        """R1.104."""
        wish = wanted(input or None)
        query: dict[str, Any] = dict(_NEWEST_FIRST)
        if filter:
            query |= _given(
                {
                    "status": filter.status,
                    "type": filter.type,
                    "startDate": filter.start_date,
                    "endDate": filter.end_date,
                    "minAmount": filter.min_amount,
                    "maxAmount": filter.max_amount,
                }
            )
        found = await RestList(info.context, "/api/payments", "payments", query).stretch(wish)
        return PaymentConnection(
            edges=[
                PaymentEdge(node=Payment.of(raw), cursor=cursor) for raw, cursor in found.entries
            ],
            page_info=found.page_info,
            total_count=found.total,
        )

    @_for_members
    async def profile(self, info: Info) -> Profile:
        """R1.145."""
        return Profile.of(await info.context.load("/api/profile"))

    @_for_admins
    async def users(
        self,
        info: Info,
        input: PaginationInput | None = strawberry.UNSET,
        role: UserRole | None = strawberry.UNSET,
        search: str | None = strawberry.UNSET,
    ) -> AdminUserConnection:
        """R1.126."""
        wish = wanted(input or None)
        query = {**_NEWEST_FIRST, **_given({"role": role, "search": search})}
        found = await RestList(info.context, "/api/admin/users", "users", query).stretch(wish)
        return AdminUserConnection(
            edges=[
                AdminUserEdge(node=AdminUser.of(raw), cursor=cursor)
                for raw, cursor in found.entries
            ],
            page_info=found.page_info,
            total_count=found.total,
        )

    @_for_admins
    async def user(self, info: Info, id: strawberry.ID) -> AdminUser | None:
        """R1.127."""
        return AdminUser.of(await info.context.load(f"/api/admin/users/{name(id)}"))

    @_for_admins
    async def audit_logs(
        self,
        info: Info,
        input: PaginationInput | None = strawberry.UNSET,
        action: str | None = strawberry.UNSET,
    ) -> AuditLogConnection:
        """R1.138."""
        wish = wanted(input or None)
        query = _given({"action": action})
        rows = RestList(info.context, "/api/admin/audit-logs", "auditLogs", query)
        found = await rows.stretch(wish)
        return AuditLogConnection(
            edges=[
                AuditLogEdge(node=AuditLog.of(raw), cursor=cursor) for raw, cursor in found.entries
            ],
            page_info=found.page_info,
            total_count=found.total,
        )

    @_for_admins
    async def system_config(self, info: Info, key: str) -> SystemConfig | None:
        """R1.140."""
        return SystemConfig.of(await info.context.load(f"/api/admin/config/{name(key, 'key')}"))


@strawberry.type
class Mutation:
    """Changing."""

    @strawberry.mutation
    async def login(self, info: Info, input: LoginInput) -> AuthResponse:
        """R1.60."""
        body = {"email": input.email, "password": input.password}
        return AuthResponse.of(await info.context.change("POST", "/api/auth/login", body))

    @strawberry.mutation
    async def register(self, info: Info, input: RegisterInput) -> AuthResponse:
        """R1.59."""
        body = {"email": input.email, "password": input.password, "name": input.name}
        return AuthResponse.of(await info.context.change("POST", "/api/auth/register", body))

    @strawberry.mutation
    async def refresh_token(self, info: Info, refresh_token: str) -> AuthResponse:
        """R1.61."""
        body = {"refreshToken": refresh_token}
        return AuthResponse.of(await info.context.change("POST", "/api/auth/refresh", body))

    @_for_members
    async def logout(self, info: Info) -> bool:
        """R1.63."""
        await info.context.change("POST", "/api/auth/logout", {})
        return True

    @_for_members
    async def create_payment(
        self,
        info: Info,
        input: CreatePaymentInput,
        idempotency_key: str | None = strawberry.UNSET,
    ) -> Payment:
        """R1.108, R1.114."""
        headers = {}
        if isinstance(idempotency_key, str):
            headers["Idempotency-Key"] = header(idempotency_key, "idempotencyKey")
        made = await info.context.change("POST", "/api/payments", _changes(input), headers)
        return Payment.of(made)

    @_for_members
    async def update_payment(
        self, info: Info, id: strawberry.ID, input: UpdatePaymentInput
    ) -> Payment:
        """R1.109."""
        path = f"/api/payments/{name(id)}"
        return Payment.of(await info.context.change("PUT", path, _changes(input)))

    @_for_members
    async def update_payment_status(
        self,
        info: Info,
        id: strawberry.ID,
        status: PaymentStatus,
        reason: str | None = strawberry.UNSET,
    ) -> Payment:
        """R1.117."""
        body = _given({"status": status, "reason": reason})
        path = f"/api/payments/{name(id)}/status"
        return Payment.of(await info.context.change("PATCH", path, body))

    @_for_members
    async def delete_payment(self, info: Info, id: strawberry.ID) -> bool:
        """Cancel it (R10.2)."""
        path = f"/api/payments/{name(id)}/status"
        await info.context.change("PATCH", path, {"status": PaymentStatus.CANCELLED.value})
        return True

    @_for_members
    async def update_profile(self, info: Info, input: UpdateProfileInput) -> Profile:
        """R1.146, R1.148; null clears a field."""
        fields = {
            key: value
            for key, value in (
                ("phone", input.phone),
                ("address", input.address),
                ("avatarUrl", input.avatar_url),
                ("bio", input.bio),
            )
            if value is not strawberry.UNSET
        }
        return Profile.of(
            await info.context.change_profile(
                {**fields, **_given({"preferences": input.preferences})}
            )
        )

    @_for_admins
    async def update_user_role(self, info: Info, id: strawberry.ID, role: UserRole) -> AdminUser:
        """R1.130."""
        path = f"/api/admin/users/{name(id)}/role"
        return AdminUser.of(await info.context.change("PUT", path, {"role": role.value}))

    @_for_admins
    async def update_system_config(
        self,
        info: Info,
        key: str,
        value: JSON,
        description: str | None = strawberry.UNSET,
    ) -> SystemConfig:
        """R1.140."""
        path = f"/api/admin/config/{name(key, 'key')}"
        body = {"value": value, **_given({"description": description})}
        return SystemConfig.of(await info.context.change("PUT", path, body))
