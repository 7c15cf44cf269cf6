"""Opens accounts, for those who register and for administrators (R1.59, R1.128)."""

from __future__ import annotations

from system.auth.domain.accounts import User
from system.auth.ports import PasswordHasher, Store, Unit
from system.auth.service import facts
from system.platform.http import errors


async def hash_for(store: Store, hasher: PasswordHasher, email: str, password: str) -> str:
    """Hash the password of an account that is to be opened.

    Raises:
        ApiError: 409 EMAIL_EXISTS.
    """
    # Asked only to save a hash; opening the account decides.
    if await store.user_by_email(email) is not None:
        raise email_exists()
    return await hasher.hash(password)


async def open_account(
    unit: Unit, user: User, password_hash: str, *, origin: str, actor_id: str | None
) -> None:
    """Write the account and its event (R3.23).

    Raises:
        ApiError: 409 EMAIL_EXISTS.
    """
    if not await unit.add_user(user, password_hash):
        raise email_exists()
    await unit.emit(facts.user_created(user, origin=origin, actor_id=actor_id))


def email_exists() -> errors.ApiError:
    """R1.59, R1.128."""
    return errors.conflict("EMAIL_EXISTS", "An account with this email already exists")
