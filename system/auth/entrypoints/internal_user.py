"""Writes an account as other services keep it."""

from __future__ import annotations

from typing import Any

from system.auth.domain.accounts import User
from system.platform.moments import timestamp


def internal_user(account: User) -> dict[str, Any]:
    """An account as other services keep it (R2.21)."""
    return {
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "role": str(account.role),
        "status": str(account.status),
        "emailVerified": account.email_verified,
        "version": account.version,
        "createdAt": timestamp(account.created_at),
        "updatedAt": timestamp(account.updated_at),
    }
