"""Keeps the signing keys, encrypted, and their rotations in auth_db (R1.30, R2.9, R2.10)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from system.auth.domain.keys import KeyKind, KeyStatus, Rotation
from system.auth.ports import StoredKey
from system.platform.config.encryption import decrypt, encrypt
from system.platform.database import Database, Transaction

# Any number: advisory locks are per database, and the others are different.
_RING = 0x72696E67
_KEY = "kind, kid, secret_encrypted, created_at, expires_at, is_active, can_verify"


class Vault:
    """Seals key material with SECRETS_ENCRYPTION_KEY (R0.15).

    Args:
        key: 32 bytes; None, possible in development mode only, takes one that everybody knows.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key or hashlib.sha256(b"development-only-vault").digest()

    def seal(self, secret: bytes) -> str:
        """Return `ENC[local:…]`."""
        return encrypt(secret.decode(), self._key)

    def open(self, sealed: str) -> bytes:
        """Return the secret.

        Raises:
            ValueError: sealed with another key, or changed.
        """
        return decrypt(sealed, self._key).encode()


async def read_keys(database: Database | Transaction, vault: Vault) -> Sequence[StoredKey]:
    """Read all keys: of each kind the active one first, then the newest."""
    rows = await database.fetch(
        f"SELECT {_KEY} FROM signing_keys ORDER BY kind, is_active DESC, created_at DESC, kid",
        operation="select",
        table="signing_keys",
    )
    return [
        StoredKey(
            KeyStatus(
                kind=KeyKind(row["kind"]),
                kid=row["kid"],
                created_at=row["created_at"],
                expires_at=row["expires_at"],
                is_active=row["is_active"],
                can_verify=row["can_verify"],
            ),
            vault.open(row["secret_encrypted"]),
        )
        for row in rows
    ]


async def read_rotations(database: Database) -> Sequence[Rotation]:
    """Read all rotations, the latest first."""
    rows = await database.fetch(
        """SELECT kind, old_kid, new_kid, triggered_by, reason, rotated_at FROM key_rotations
           ORDER BY rotated_at DESC, id""",
        operation="select",
        table="key_rotations",
    )
    return [_rotation(row) for row in rows]


class PostgresKeys:
    """`ports.KeyRows` on one database transaction."""

    def __init__(self, transaction: Transaction, vault: Vault) -> None:
        self._tx = transaction
        self._vault = vault

    async def hold_ring(self) -> None:
        await self._tx.execute(
            "SELECT pg_advisory_xact_lock($1)", _RING, operation="select", table="signing_keys"
        )

    async def signing_keys(self) -> Sequence[StoredKey]:
        return await read_keys(self._tx, self._vault)

    async def add_signing_key(self, key: StoredKey) -> None:
        status = key.status
        await self._tx.execute(
            f"INSERT INTO signing_keys ({_KEY}) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            status.kind,
            status.kid,
            self._vault.seal(key.secret),
            status.created_at,
            status.expires_at,
            status.is_active,
            status.can_verify,
            operation="insert",
            table="signing_keys",
        )

    async def activate_key(self, kind: KeyKind, kid: str, retire_at: datetime) -> str | None:
        old_kid: str | None = await self._tx.fetchval(
            """UPDATE signing_keys SET is_active = false, expires_at = $2
               WHERE kind = $1 AND is_active RETURNING kid""",
            kind,
            retire_at,
            operation="update",
            table="signing_keys",
        )
        await self._tx.execute(
            "UPDATE signing_keys SET is_active = true WHERE kind = $1 AND kid = $2",
            kind,
            kid,
            operation="update",
            table="signing_keys",
        )
        return old_kid

    async def add_rotation(self, rotation: Rotation) -> None:
        await self._tx.execute(
            """INSERT INTO key_rotations (id, kind, old_kid, new_kid, triggered_by, reason,
                                          rotated_at)
               VALUES (gen_random_uuid()::text, $1, $2, $3, $4, $5, $6)""",
            rotation.kind,
            rotation.old_kid,
            rotation.new_kid,
            rotation.triggered_by,
            rotation.reason,
            rotation.rotated_at,
            operation="insert",
            table="key_rotations",
        )


def _rotation(row: Any) -> Rotation:
    return Rotation(
        kind=KeyKind(row["kind"]),
        old_kid=row["old_kid"],
        new_kid=row["new_kid"],
        triggered_by=row["triggered_by"],
        reason=row["reason"],
        rotated_at=row["rotated_at"],
    )
