"""Tokens are judged as R1.22-R1.28 say: a table of forged and stale ones, each with its control."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from system.platform.http.errors import ApiError
from system.platform.security.tokens import (
    REFRESH_TOKEN_LIMIT,
    KeyRing,
    NoSigningKey,
    SigningKey,
    TokenType,
    environment_keys,
    issue_access,
    issue_refresh,
    lifetime_seconds,
    verify,
)

NOW = 1_768_644_000
ACCESS_SECRET = b"access-key-of-the-tests-0123456789ab"
REFRESH_SECRET = b"refresh-key-of-the-tests-0123456789a"
KID = "legacy-v1"
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT", "kid": KID}
CLAIMS: dict[str, Any] = {
    "userId": str(uuid.uuid4()),
    "email": "c@x.test",
    "name": "C",
    "role": "CUSTOMER",
    "sid": str(uuid.uuid4()),
    "jti": str(uuid.uuid4()),
    "iss": "auth-service",
    "aud": "payments-system",
    "type": "access",
    "iat": NOW,
    "exp": NOW + 900,
}
USER = {
    "user_id": CLAIMS["userId"],
    "email": "c@x.test",
    "name": "C",
    "role": "CUSTOMER",
    "session_id": CLAIMS["sid"],
}


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def ring_of(clock: Clock | None = None, **options: Any) -> KeyRing:
    return KeyRing(
        {
            TokenType.ACCESS: [SigningKey(KID, ACCESS_SECRET, is_active=True)],
            TokenType.REFRESH: [SigningKey(KID, REFRESH_SECRET, is_active=True)],
        },
        clock=clock or Clock(),
        **options,
    )


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(
    header: object = HEADER,
    claims: object = CLAIMS,
    secret: bytes = ACCESS_SECRET,
    digest: Callable[..., Any] = hashlib.sha256,
) -> str:
    """Sign anything, without the library under test."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), digest).digest())}"


def claims_with(**changes: Any) -> dict[str, Any]:
    return {**CLAIMS, **changes}


def claims_without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def swapped_last_character() -> str:
    """The same signature bytes by a lenient reader: only unused bits of the last character differ.

    43 characters carry 258 bits for a signature of 256.
    """
    token = forge()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


SIGNED, PAYLOAD, SIGNATURE = forge().split(".")

INVALID = {
    "empty": "",
    "blank": " ",
    "not a token": "abc",
    "two parts": f"{SIGNED}.{PAYLOAD}",
    "four parts": f"{forge()}.x",
    "no header": f".{PAYLOAD}.{SIGNATURE}",
    "no payload": f"{SIGNED}..{SIGNATURE}",
    "no signature": f"{SIGNED}.{PAYLOAD}.",
    "header is no JSON": f"{part(b'{')}.{PAYLOAD}.{SIGNATURE}",
    "header is a list": forge(header=["alg"]),
    "header is a text": forge(header="alg"),
    "header nests deeply": forge(header=b"[" * 3000),
    "payload is no JSON": forge(claims=b"claims"),
    "payload is a list": forge(claims=[CLAIMS]),
    "payload is not UTF-8": forge(claims=b'{"userId":"\xff"}'),
    "padded": forge() + "=",
    "not ASCII": forge() + "é",
    "lone surrogate": "\ud800",
    "last character swapped": swapped_last_character(),
    "signature of other claims": f"{forge().rpartition('.')[0]}.{forge(claims={}).split('.')[2]}",
    "claims edited": f"{SIGNED}.{part(claims_with(role='ADMIN'))}.{SIGNATURE}",
    "another secret": forge(secret=b"x" * 40),
    "development secret": forge(secret=b"development-only-jwt-secret-never-in-production"),
    "empty secret": forge(secret=b""),
    "refresh key": forge(secret=REFRESH_SECRET),
    "alg none, unsigned": f"{part({**HEADER, 'alg': 'none'})}.{PAYLOAD}.",
    "alg None, unsigned": f"{part({**HEADER, 'alg': 'None'})}.{PAYLOAD}.",
    "alg none, signed": forge({**HEADER, "alg": "none"}),
    "alg HS384, rightly signed": forge({**HEADER, "alg": "HS384"}, digest=hashlib.sha384),
    "alg HS512, rightly signed": forge({**HEADER, "alg": "HS512"}, digest=hashlib.sha512),
    "alg RS256": forge({**HEADER, "alg": "RS256"}),
    "alg missing": forge({"typ": "JWT", "kid": KID}),
    "alg a list": forge({**HEADER, "alg": ["HS256"]}),
    "alg in lower case": forge({**HEADER, "alg": "hs256"}),
    "kid missing": forge({"alg": "HS256", "typ": "JWT"}),
    "kid unknown": forge({**HEADER, "kid": "key-2026-01-17-9f3a01bc"}),
    "kid a path": forge({**HEADER, "kid": "../../dev/null"}, secret=b""),
    "kid a query": forge({**HEADER, "kid": "x' UNION SELECT 'k'--"}, secret=b"k"),
    "kid null": forge({**HEADER, "kid": None}),
    "kid a list": forge({**HEADER, "kid": [KID]}),
    "typ missing": forge({"alg": "HS256", "kid": KID}),
    "typ of another kind": forge({**HEADER, "typ": "at+jwt"}),
    "own key in the header": forge({**HEADER, "jwk": {"kty": "oct", "k": part(b"x" * 32)}}),
    "key address in the header": forge({**HEADER, "jku": "http://127.0.0.1/keys"}),
    "critical extension": forge({**HEADER, "crit": ["exp"]}),
    "unencoded payload": forge({**HEADER, "b64": False, "crit": ["b64"]}),
    "another issuer": forge(claims=claims_with(iss="payments-service")),
    "another audience": forge(claims=claims_with(aud="other-system")),
    "audience a list": forge(claims=claims_with(aud=["payments-system"])),
    "a refresh token by type": forge(claims=claims_with(type="refresh")),
    "another type": forge(claims=claims_with(type="id")),
    "another role": forge(claims=claims_with(role="ROOT")),
    "role in lower case": forge(claims=claims_with(role="admin")),
    "user id no UUID": forge(claims=claims_with(userId="1")),
    "session id no UUID": forge(claims=claims_with(sid="../x")),
    "token id blank": forge(claims=claims_with(jti="")),
    "e-mail blank": forge(claims=claims_with(email="")),
    "expiry a text": forge(claims=claims_with(exp=str(NOW + 900))),
    "expiry true": forge(claims=claims_with(exp=True)),
    "issued in the future": forge(claims=claims_with(iat=NOW + 60)),
    "not yet valid": forge(claims=claims_with(nbf=NOW + 60)),
    "longer than any token": forge(claims=claims_with(name="n" * 9000)),
    **{f"without {name}": forge(claims=claims_without(name)) for name in CLAIMS},
    **{f"{name} null": forge(claims=claims_with(**{name: None})) for name in CLAIMS},
}

EXPIRED = {
    "expired an hour ago": claims_with(iat=NOW - 4500, exp=NOW - 3600),
    "only exp differs": claims_with(exp=NOW - 1),
    "expires this second": claims_with(exp=NOW),
}


def code_of(token: str, ring: KeyRing, kind: TokenType = TokenType.ACCESS) -> str:
    with pytest.raises(ApiError) as refusal:
        verify(token, ring, kind)
    assert refusal.value.status == 401
    return refusal.value.code


@pytest.mark.parametrize("name", INVALID)
def test_forged_token_is_invalid(name: str) -> None:
    """Each of these differs from an accepted token in one thing and is TOKEN_INVALID."""
    ring = ring_of()
    assert verify(forge(), ring).user_id == CLAIMS["userId"], "the control must be accepted"

    assert code_of(INVALID[name], ring) == "TOKEN_INVALID"


@pytest.mark.parametrize("name", EXPIRED)
def test_stale_token_is_expired(name: str) -> None:
    """A good signature past its `exp` is TOKEN_EXPIRED."""
    assert code_of(forge(claims=EXPIRED[name]), ring_of()) == "TOKEN_EXPIRED"


def test_stale_and_wrong_token_is_invalid() -> None:
    """A wrong claim wins over a past expiry, so that nothing is told about a forged token."""
    stale = claims_with(iss="other", exp=NOW - 1)

    assert code_of(forge(claims=stale), ring_of()) == "TOKEN_INVALID"


def test_the_table_is_large_enough() -> None:
    """At least 25 different forged or stale tokens are tried."""
    assert len({*INVALID.values(), *(forge(claims=claims) for claims in EXPIRED.values())}) >= 25


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(token=st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"{part(raw)}.e30.x"))
def test_any_text_is_refused_as_a_token(token: str) -> None:
    """Whatever is sent, the answer is a refusal, never another error."""
    assert code_of(token, ring_of()) == "TOKEN_INVALID"


@pytest.mark.parametrize("member", ["alg", "kid", "typ"])
@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "x", [], {}, [[]], {"a": [1]}], ids=repr)
def test_any_header_value_is_refused(member: str, value: object) -> None:
    """JSON of any shape in the header is a refusal, never another error."""
    assert code_of(forge({**HEADER, member: value}), ring_of()) == "TOKEN_INVALID"


def test_issued_tokens_are_accepted_as_their_type_only() -> None:
    """What is issued verifies, carries the contracted claims, and not in the other's place."""
    ring = ring_of()

    access = issue_access(ring, lifetime=900, **USER)
    refresh = issue_refresh(ring, lifetime=604800, **USER)

    header, payload, _ = (
        base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)) for x in access.split(".")
    )
    assert json.loads(header) == HEADER
    assert set(json.loads(payload)) == set(CLAIMS)
    assert verify(access, ring).expires_at == NOW + 900
    assert verify(refresh, ring, TokenType.REFRESH).expires_at == NOW + 604800
    assert code_of(refresh, ring) == "TOKEN_INVALID"
    assert code_of(access, ring, TokenType.REFRESH) == "TOKEN_INVALID"


def test_two_tokens_are_never_equal() -> None:
    """Tokens of one user, session and second differ (R1.26)."""
    ring = ring_of()

    tokens = {issue_access(ring, lifetime=900, **USER) for _ in range(50)}

    assert len(tokens) == 50


def test_refresh_token_of_the_longest_name_is_short_enough() -> None:
    """The refresh token of any user fits into what refresh accepts (R1.61)."""
    longest = {**USER, "name": "\N{GRINNING FACE}" * 255, "email": "ä" * 255}

    token = issue_refresh(ring_of(), lifetime=604800, **longest)

    assert len(token) <= REFRESH_TOKEN_LIMIT
    assert verify(token, ring_of(), TokenType.REFRESH).email == longest["email"]


def test_remembered_token_still_expires() -> None:
    """A token accepted before is refused from its `exp` on (the cache never extends it)."""
    clock = Clock()
    ring = ring_of(clock)
    token = forge()
    verify(token, ring)

    clock.now = NOW + 899.9
    verify(token, ring)
    clock.now = NOW + 900

    assert code_of(token, ring) == "TOKEN_EXPIRED"
    assert code_of(token, ring) == "TOKEN_EXPIRED"


def test_remembered_token_falls_with_its_key() -> None:
    """A token accepted before is refused once its key is out of the ring or out of time."""
    clock = Clock()
    ring = ring_of(clock)
    token = forge()
    verify(token, ring)
    end = datetime.fromtimestamp(NOW + 10, UTC)

    ring.replace(TokenType.ACCESS, [SigningKey(KID, ACCESS_SECRET, True, expires_at=end)])
    verify(token, ring)
    clock.now = NOW + 10
    assert code_of(token, ring) == "TOKEN_INVALID"
    ring.replace(TokenType.ACCESS, [SigningKey("other", b"y" * 40, True)])
    assert code_of(token, ring) == "TOKEN_INVALID"


def test_memory_of_tokens_is_bounded() -> None:
    """However many tokens are seen, only so many are kept."""
    ring = ring_of(cache_size=8)

    tokens = [issue_access(ring, lifetime=900, **USER) for _ in range(50)]
    for token in tokens:
        verify(token, ring)

    kept = [token for token in tokens if ring.remembered(TokenType.ACCESS, token)]
    assert kept == tokens[-8:]


def test_ring_signs_with_a_new_key_and_still_verifies_the_old() -> None:
    """After a rotation new tokens carry the new kid and old ones are accepted (R1.30)."""
    ring = ring_of()
    old = issue_access(ring, lifetime=900, **USER)

    ring.replace(
        TokenType.ACCESS,
        [
            SigningKey("key-2026-01-17-9f3a01bc", b"z" * 40, is_active=True),
            SigningKey(KID, ACCESS_SECRET),
        ],
    )
    new = issue_access(ring, lifetime=900, **USER)

    assert verify(old, ring)
    assert verify(new, ring)
    header = json.loads(base64.urlsafe_b64decode(new.split(".")[0] + "=="))
    assert header["kid"] == "key-2026-01-17-9f3a01bc"


def test_key_that_must_not_verify_does_not() -> None:
    """`canVerify: false` refuses the key's tokens (R0.13)."""
    ring = ring_of()
    ring.replace(TokenType.ACCESS, [SigningKey(KID, ACCESS_SECRET, True, can_verify=False)])

    assert code_of(forge(), ring) == "TOKEN_INVALID"


def test_ring_without_active_key_signs_nothing() -> None:
    """Issuing without a key in force says what to do instead of signing with an old one."""
    ring = ring_of()
    past = datetime.fromtimestamp(NOW - 1, UTC)
    ring.replace(TokenType.ACCESS, [SigningKey(KID, ACCESS_SECRET, True, expires_at=past)])

    with pytest.raises(NoSigningKey, match="isActive"):
        issue_access(ring, lifetime=900, **USER)


def test_environment_keys_put_the_list_before_the_single_one() -> None:
    """JWT_SECRETS comes before JWT_SECRET; its active entry, else its first, signs (R1.30)."""
    listed = json.dumps(
        [
            {"kid": "a", "secret": "a" * 40, "createdAt": "2026-01-17T10:00:00.000Z"},
            {"kid": "b", "secret": "b" * 40, "isActive": True, "canVerify": True},
            {
                "kid": "c",
                "secret": "c" * 40,
                "canVerify": False,
                "expiresAt": "2027-01-01T00:00:00",
            },
        ]
    )

    keys = environment_keys(listed, "s" * 40)

    assert [key.kid for key in keys] == ["a", "b", "c", "legacy-v1"]
    assert [key.kid for key in keys if key.is_active] == ["b"]
    assert [key.kid for key in keys if not key.can_verify] == ["c"]
    assert keys[2].expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    first_of_two = environment_keys(json.dumps([{"kid": "a", "secret": "a" * 40}]), "s" * 40)
    assert [key.kid for key in first_of_two if key.is_active] == ["a"]
    assert [key.kid for key in environment_keys(None, "s" * 40)] == ["legacy-v1"]


@pytest.mark.parametrize(
    ("secrets", "secret"),
    [
        (None, None),
        ("", ""),
        ("{", None),
        ("{}", None),
        ('[{"kid":"a"}]', None),
        ('[{"kid":"a","secret":"x"},{"kid":"a","secret":"y"}]', None),
    ],
)
def test_unusable_environment_keys_are_refused(secrets: str | None, secret: str | None) -> None:
    """A ring without keys, with twins or from broken JSON is refused with what was expected."""
    with pytest.raises(ValueError, match="expected"):
        environment_keys(secrets, secret)


def test_key_does_not_show_its_secret() -> None:
    """A key in a log line or traceback shows its kid only (R1.99)."""
    assert "access-key" not in repr(SigningKey(KID, ACCESS_SECRET))


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900), ("7d", 604800), ("12h", 43200), ("90s", 90), ("90", 90)]
)
def test_lifetime_is_read(text: str, seconds: int) -> None:
    """Durations are read with their units."""
    assert lifetime_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "15 m", "-1m", "0m", "1.5h", "m", "15min"])
def test_unusable_lifetime_is_refused(text: str) -> None:
    """Anything else is refused, so that no token lives for ever by mistake."""
    with pytest.raises(ValueError, match="expected a duration"):
        lifetime_seconds(text)
