"""Signs and judges the JSON Web Tokens of the system: one place, so every component judges alike.

Framework-free: services use it behind Litestar, the gateway behind aiohttp.  The rules are
R1.22-R1.28 of the contract.  Judging a token has two halves: *verify* (this module) needs keys and
a clock only; whether the token's session is still open is asked in `sessions`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from system.platform.http import errors

if TYPE_CHECKING:
    from system.platform.config.settings import Settings

ISSUER: Final = "auth-service"
AUDIENCE: Final = "payments-system"
ALGORITHM: Final = "HS256"
# A clock ahead of ours by this many seconds is forgiven (R1.25 allows 5); never a late one.
CLOCK_TOLERANCE_S: Final = 5
# R1.61: a refresh token is at most this long.
REFRESH_TOKEN_LIMIT: Final = 2048
# No token of ours comes near it; longer input is not worth a signature.
TOKEN_LIMIT: Final = 8192
LEGACY_KID: Final = "legacy-v1"

ROLES: Final = frozenset({"ADMIN", "CUSTOMER", "VENDOR"})
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LIFETIME = re.compile(r"(\d{1,9})(s|m|h|d)?")
_SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_HEADER_MEMBERS: Final = {"alg", "typ", "kid"}
# Everything that joserfc and json raise on hostile input; each of them means "malformed".
_MALFORMED = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class TokenType(StrEnum):
    """What a token is for (claim `type`); each type has keys of its own (R1.25)."""

    ACCESS = "access"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says (R1.24).

    Attributes:
        user_id: id of the account.
        email: address of the account when the token was issued.
        name: display name when the token was issued.
        role: ADMIN, CUSTOMER or VENDOR when the token was issued.
        session_id: claim `sid`.
        token_id: claim `jti`, unique.
        type: access or refresh.
        issued_at: claim `iat`, seconds since the epoch.
        expires_at: claim `exp`, seconds since the epoch.
    """

    user_id: str
    email: str
    name: str
    role: str
    session_id: str
    token_id: str
    type: TokenType
    issued_at: int
    expires_at: int


class _Payload(msgspec.Struct, frozen=True):
    """The claims as they lie in the token; a missing one or another type is refused (R1.24)."""

    userId: str  # noqa: N815 - the claim's name
    email: str
    name: str
    role: str
    sid: str
    jti: str
    iss: str
    aud: str
    type: str
    iat: int
    exp: int
    nbf: int | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the ring.

    Attributes:
        kid: its name, carried in the token's header (R1.23).
        secret: the key itself; kept out of the representation.
        is_active: signs new tokens.
        can_verify: tokens signed with it are accepted.
        created_at: when it was made, if known.
        expires_at: the moment from which it neither signs nor verifies; None: never.
    """

    kid: str
    secret: bytes
    is_active: bool = False
    can_verify: bool = True
    created_at: datetime | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, is_active={self.is_active})"


class NoSigningKey(LookupError):
    """A token was to be issued but no key of the kind is active."""


@dataclass(frozen=True, slots=True)
class _Usable:
    key: OctKey
    expires_at: float | None


class KeyRing:
    """The keys that sign and verify, by type of token and kid (R1.23, R1.25).

    Keys can be replaced while the process runs (`replace`), which is how a rotation arrives
    (R1.30); tokens verified before are then judged anew.

    Args:
        keys: the keys of each type; a verifier that never sees refresh tokens leaves them out.
        clock: seconds since the epoch.
        cache_size: verified tokens kept; 0 keeps none.
    """

    def __init__(
        self,
        keys: Mapping[TokenType, Iterable[SigningKey]],
        *,
        clock: Callable[[], float] = time.time,
        cache_size: int = 4096,
    ) -> None:
        self.clock = clock
        self._cache_size = cache_size
        self._keys: dict[TokenType, tuple[SigningKey, ...]] = {}
        self._verifying: dict[TokenType, dict[str, _Usable]] = {kind: {} for kind in TokenType}
        self._verified: dict[tuple[TokenType, str], tuple[Claims, float | None]] = {}
        for kind in TokenType:
            self.replace(kind, keys.get(kind, ()))

    @classmethod
    def from_settings(cls, settings: Settings, *, refresh: bool = False) -> KeyRing:
        """Make the ring of the environment's keys.

        Args:
            settings: the process's configuration.
            refresh: also hold the refresh keys; only auth-service needs them.

        Raises:
            ValueError: see `environment_keys`.
        """
        keys = {TokenType.ACCESS: environment_keys(settings.jwt_secrets, settings.jwt_secret)}
        if refresh:
            keys[TokenType.REFRESH] = environment_keys(
                settings.jwt_refresh_secrets, settings.jwt_refresh_secret
            )
        return cls(keys)

    def replace(self, kind: TokenType, keys: Iterable[SigningKey]) -> None:
        """Put other keys in the place of all keys of this type."""
        self._keys[kind] = tuple(keys)
        self._verifying[kind] = {
            key.kid: _Usable(
                OctKey.import_key(key.secret),
                key.expires_at.timestamp() if key.expires_at else None,
            )
            for key in self._keys[kind]
            if key.can_verify
        }
        self._verified.clear()

    def keys(self, kind: TokenType) -> tuple[SigningKey, ...]:
        """All keys of this type, in ring order."""
        return self._keys[kind]

    def active(self, kind: TokenType) -> SigningKey:
        """Return the key that signs tokens of this type.

        Raises:
            NoSigningKey: none of them is active and in time.
        """
        now = self.clock()
        for key in self._keys[kind]:
            if key.is_active and (key.expires_at is None or key.expires_at.timestamp() > now):
                return key
        raise NoSigningKey(
            f"no active {kind} key among {[key.kid for key in self._keys[kind]]}; "
            "set isActive on one key, or remove expired keys from the environment"
        )

    def knows(self, kind: TokenType, kid: str) -> bool:
        """Whether a key of this type has this name, in force or not."""
        return any(key.kid == kid for key in self._keys[kind])

    def verifying_key(self, kind: TokenType, kid: object) -> OctKey | None:
        """The key of this type and kid if it may verify at this moment, else None."""
        usable = self._verifying[kind].get(kid) if isinstance(kid, str) else None
        if usable is None or (usable.expires_at is not None and usable.expires_at <= self.clock()):
            return None
        return usable.key

    def remembered(self, kind: TokenType, token: str) -> Claims | None:
        """Claims of a token that was verified before with a key still in force, else None.

        The caller still checks expiry: remembering saves the signature, not the clock.
        """
        found = self._verified.get((kind, token))
        if found is None or (found[1] is not None and found[1] <= self.clock()):
            return None
        return found[0]

    def remember(self, kind: TokenType, token: str, kid: str, claims: Claims) -> None:
        """Keep the claims of a verified token; the oldest entries make room."""
        if self._cache_size <= 0:
            return
        while len(self._verified) >= self._cache_size:
            del self._verified[next(iter(self._verified))]
        self._verified[kind, token] = (claims, self._verifying[kind][kid].expires_at)

    def forget(self, kind: TokenType, token: str) -> None:
        """Drop a token that has expired."""
        self._verified.pop((kind, token), None)


class _EnvironmentKey(msgspec.Struct, rename="camel"):
    """An entry of JWT_SECRETS or JWT_REFRESH_SECRETS (R0.13)."""

    kid: str
    secret: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    is_active: bool | None = None
    can_verify: bool = True


def environment_keys(secrets: str | None, secret: str | None) -> tuple[SigningKey, ...]:
    """Read the keys of one type from the environment (R0.13, R1.23, R1.30).

    Args:
        secrets: JSON array of JWT_SECRETS or JWT_REFRESH_SECRETS, or nothing.
        secret: JWT_SECRET or JWT_REFRESH_SECRET, or nothing; it becomes `legacy-v1`, after the
            others.

    Returns:
        The keys; exactly the first one marked `isActive`, or else the first one, is active.

    Raises:
        ValueError: the array cannot be read, names a kid twice, or no key is left.
    """
    listed: list[_EnvironmentKey] = []
    if secrets:
        try:
            listed = msgspec.json.decode(secrets, type=list[_EnvironmentKey])
        except msgspec.MsgspecError as error:
            raise ValueError(
                f"seen {error}, expected a JSON array of "
                "{kid, secret, createdAt, expiresAt, isActive, canVerify}"
            ) from error
    if secret:
        listed.append(_EnvironmentKey(kid=LEGACY_KID, secret=secret))
    kids = [key.kid for key in listed]
    if not kids or len(set(kids)) != len(kids):
        raise ValueError(f"seen the kids {kids}, expected at least one and each of them once")
    active = next((key.kid for key in listed if key.is_active), kids[0])
    return tuple(
        SigningKey(
            kid=key.kid,
            secret=key.secret.encode(),
            is_active=key.kid == active,
            can_verify=key.can_verify,
            created_at=_utc(key.created_at),
            expires_at=_utc(key.expires_at),
        )
        for key in listed
    )


def _utc(moment: datetime | None) -> datetime | None:
    """Read a time without zone as UTC (R0.4)."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def lifetime_seconds(text: str) -> int:
    """Read a duration such as `15m`, `7d`, `900s` or `900` (seconds).

    Raises:
        ValueError: another form, or nothing.
    """
    match = _LIFETIME.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"seen {text!r}, expected a duration such as 15m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def issue_access(
    ring: KeyRing, *, user_id: str, email: str, name: str, role: str, session_id: str, lifetime: int
) -> str:
    """Sign an access token that lives `lifetime` seconds (R1.22-R1.26)."""
    return _issue(ring, TokenType.ACCESS, user_id, email, name, role, session_id, lifetime)


def issue_refresh(
    ring: KeyRing, *, user_id: str, email: str, name: str, role: str, session_id: str, lifetime: int
) -> str:
    """Sign a refresh token that lives `lifetime` seconds.

    A name so long that the token would pass the 2048 characters which R1.61 accepts is cut in the
    token: no one reads the name of a refresh token, and an unusable session would be worse.
    """
    kind = TokenType.REFRESH
    token = _issue(ring, kind, user_id, email, name, role, session_id, lifetime)
    if len(token) > REFRESH_TOKEN_LIMIT:
        token = _issue(ring, kind, user_id, email, name[:64], role, session_id, lifetime)
    return token


def _issue(
    ring: KeyRing,
    kind: TokenType,
    user_id: str,
    email: str,
    name: str,
    role: str,
    session_id: str,
    lifetime: int,
) -> str:
    key = ring.active(kind)
    now = int(ring.clock())
    payload = {
        "userId": user_id,
        "email": email,
        "name": name,
        "role": role,
        "sid": session_id,
        "jti": str(uuid.uuid4()),  # makes two tokens of one second differ (R1.26)
        "iss": ISSUER,
        "aud": AUDIENCE,
        "type": str(kind),
        "iat": now,
        "exp": now + lifetime,
    }
    header: dict[str, Any] = {"alg": ALGORITHM, "typ": "JWT", "kid": key.kid}
    return jws.serialize_compact(
        header, msgspec.json.encode(payload), OctKey.import_key(key.secret), [ALGORITHM]
    )


def verify(token: str, ring: KeyRing, kind: TokenType = TokenType.ACCESS) -> Claims:
    """Judge a token by signature, claims and clock, in this order (R1.28).

    Args:
        token: the compact JWT as it was sent.
        ring: the keys in force.
        kind: what the token is presented as.

    Returns:
        Its claims. The session is not looked at.

    Raises:
        ApiError: 401 TOKEN_INVALID for anything but a well-signed token with all claims right;
            401 TOKEN_EXPIRED for such a token past its `exp`.
    """
    claims = ring.remembered(kind, token)
    if claims is None:
        claims = _verify_signature_and_claims(token, ring, kind)
    if claims.expires_at <= ring.clock():
        ring.forget(kind, token)
        raise errors.token_expired()
    return claims


def names_unknown_key(token: str, ring: KeyRing, kind: TokenType) -> bool:
    """Whether a token has the form of ours but names a key that the ring does not have.

    Only such a token is worth a look for new keys (R1.30).
    """
    if not token or len(token) > TOKEN_LIMIT:
        return False
    try:
        header = jws.extract_compact(token.encode()).headers()
    except _MALFORMED:
        return False
    kid = header.get("kid")
    return (
        set(header) == _HEADER_MEMBERS
        and (header["typ"], header["alg"]) == ("JWT", ALGORITHM)
        and isinstance(kid, str)
        and not ring.knows(kind, kid)
    )


def _verify_signature_and_claims(token: str, ring: KeyRing, kind: TokenType) -> Claims:
    if not token or len(token) > TOKEN_LIMIT:
        raise errors.token_invalid()
    try:
        signed = jws.extract_compact(token.encode())
        header = signed.headers()
        if set(header) != _HEADER_MEMBERS or header["typ"] != "JWT":
            raise errors.token_invalid()
        key = ring.verifying_key(kind, header["kid"])
        if key is None or not jws.validate_compact(signed, key, [ALGORITHM]):
            raise errors.token_invalid()
        payload = msgspec.json.decode(signed.payload or b"", type=_Payload)
    except _MALFORMED as error:
        raise errors.token_invalid() from error
    if not _acceptable(payload, kind, ring.clock()):
        raise errors.token_invalid()
    claims = Claims(
        user_id=payload.userId,
        email=payload.email,
        name=payload.name,
        role=payload.role,
        session_id=payload.sid,
        token_id=payload.jti,
        type=kind,
        issued_at=payload.iat,
        expires_at=payload.exp,
    )
    ring.remember(kind, token, header["kid"], claims)
    return claims


def _acceptable(payload: _Payload, kind: TokenType, now: float) -> bool:
    """Whether every claim has the value R1.24 asks for; expiry is judged afterwards."""
    latest = now + CLOCK_TOLERANCE_S
    return (
        payload.iss == ISSUER
        and payload.aud == AUDIENCE
        and payload.type == kind
        and payload.role in ROLES
        and _UUID.fullmatch(payload.userId) is not None
        and _UUID.fullmatch(payload.sid) is not None
        and bool(payload.jti)
        and bool(payload.email)
        and bool(payload.name)
        and 0 <= payload.iat <= latest
        and (payload.nbf is None or payload.nbf <= latest)
    )
