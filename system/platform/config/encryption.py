"""Seals and opens values that lie in the environment encrypted: `ENC[local:…]` (R0.15)."""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from system.platform.config.values import Unusable

_ENCRYPTED: Final = re.compile(r"ENC\[local:([A-Za-z0-9+/=\s]*)\]")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


def decrypt(value: str, key: bytes | None) -> str:
    """Return a value in the clear (R0.15).

    Args:
        value: any text; only `ENC[local:<base64>]` is changed.
        key: the 32 bytes of SECRETS_ENCRYPTION_KEY, or None.

    Raises:
        ValueError: the value is encrypted and cannot be decrypted; says why.
    """
    if not value.startswith("ENC["):
        return value
    found = _ENCRYPTED.fullmatch(value)
    if found is None:
        raise Unusable("starts with ENC[, expected ENC[local:<base64>]")
    if key is None:
        raise Unusable("is encrypted; set SECRETS_ENCRYPTION_KEY to the key it was encrypted with")
    try:
        sealed = base64.b64decode(found[1], validate=True)
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise Unusable("the encrypted value is cut off; encrypt it again")
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
    except (binascii.Error, UnicodeDecodeError, InvalidTag):
        raise Unusable(
            "cannot be decrypted: another SECRETS_ENCRYPTION_KEY, or the value was changed"
        ) from None


def encrypt(value: str, key: bytes) -> str:
    """Return `value` as `ENC[local:…]` under `key` (R0.15)."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, value.encode(), None)
    return f"ENC[local:{base64.b64encode(sealed).decode()}]"
