"""Tokens signed with the target's own key, so that exactly one thing about them is wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

_DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], secret: str) -> str:
    """A JWT in compact form (RFC 7515), signed by the header's ``alg``.

    An algorithm other than HS256, HS384 and HS512 gets an empty signature.
    """
    body = f"{_encode(header)}.{_encode(claims)}"
    digest = _DIGESTS.get(str(header.get("alg")))
    if digest is None:
        return f"{body}."
    return f"{body}.{_base64(hmac.new(secret.encode(), body.encode(), digest).digest())}"


def _encode(document: Mapping[str, Any]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
