"""Generated secrets of a stack (R0.16, R0.14, R0.19): new ones for every start from nothing."""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from system.stack.parts import SERVICES

# The contract's demo accounts (R2.23), which the seed makes.
ACCOUNTS = {
    role: {"email": f"{role}@example.com", "password": "TestPassword123!"}
    for role in ("admin", "customer", "vendor")
}
_WEAK = ("123456",)  # R0.14: the only forbidden word that chance could write


@dataclass(frozen=True)
class SigningKey:
    """A token-signing key as JWT_SECRETS lists it (R0.13)."""

    kid: str
    secret: str
    created_at: str


@dataclass(frozen=True)
class Credentials:
    """All secrets of one stack.

    Attributes:
        access, refresh: token-signing keys.
        internal_token: of the internal API.
        psp_webhook, encryption_key: as in R0.13.
        superusers, owners, runtimes: per service, passwords of its cluster's three roles; the
            legacy cluster has a superuser only.
        broker: password per broker user.
        redis: password of the cache.
    """

    access: SigningKey
    refresh: SigningKey
    internal_token: str
    psp_webhook: str
    encryption_key: str
    superusers: dict[str, str]
    owners: dict[str, str]
    runtimes: dict[str, str]
    broker: dict[str, str]
    redis: str

    def to_document(self) -> dict[str, Any]:
        """As plain values, for the stack's document."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Credentials:
        """What `to_document` gave."""
        values = dict(document)
        for kind in ("access", "refresh"):
            values[kind] = SigningKey(**values[kind])
        return cls(**values)


# The broker's users: one for our own processes, one that may also use the management plugin.
PLATFORM, OPERATOR = "platform", "operator"


def generate() -> Credentials:
    """New secrets, each of at least 32 characters."""
    return Credentials(
        access=_signing_key(),
        refresh=_signing_key(),
        internal_token=_secret(),
        psp_webhook=_secret(),
        encryption_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        superusers={cluster: _secret() for cluster in (*SERVICES, "legacy")},
        owners={service: _secret() for service in SERVICES},
        runtimes={service: _secret() for service in SERVICES},
        broker={user: _secret() for user in (PLATFORM, OPERATOR)},
        redis=_secret(),
    )


def _secret() -> str:
    """43 characters that need no quoting in a URL."""
    while True:
        text = secrets.token_urlsafe(32)
        if not any(word in text for word in _WEAK) and text[0] != "-":
            return text


def _signing_key() -> SigningKey:
    now = datetime.now(UTC)
    return SigningKey(
        kid=f"key-{now:%Y-%m-%d}-{secrets.token_hex(4)}",
        secret=_secret(),
        created_at=now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
    )
