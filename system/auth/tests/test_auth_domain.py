"""What a refresh token is worth, as a table in the order of R1.69."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from system.auth.domain.accounts import (
    RefreshToken,
    RefreshVerdict,
    RevokeReason,
    Session,
    User,
    UserRole,
    UserStatus,
    judge_refresh,
    token_hash,
)

NOW = datetime(2026, 1, 17, 10, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(seconds=1), NOW + timedelta(days=7)
ACTIVE = User(
    "u", "c@x.test", "C", UserRole.CUSTOMER, UserStatus.ACTIVE, False, 1, EARLIER, EARLIER
)
SUSPENDED = replace(ACTIVE, status=UserStatus.SUSPENDED)
OPEN = Session("s", "u", "127.0.0.1", None, EARLIER, LATER)
ENDED = replace(OPEN, expires_at=NOW)
LOGGED_OUT = replace(OPEN, revoked_at=EARLIER, revoke_reason=RevokeReason.LOGOUT)
STOLEN = replace(OPEN, revoked_at=NOW, revoke_reason=RevokeReason.TOKEN_REUSE)
FRESH = RefreshToken("h", "u", "s", LATER)
SPENT = replace(FRESH, spent_at=EARLIER)

TABLE: list[
    tuple[str, User | None, Session | None, RefreshToken | None, datetime, RefreshVerdict]
] = [
    ("good", ACTIVE, OPEN, FRESH, NOW, RefreshVerdict.ROTATE),
    ("spent", ACTIVE, OPEN, SPENT, NOW, RefreshVerdict.REUSED),
    ("never stored", ACTIVE, OPEN, None, NOW, RefreshVerdict.UNKNOWN),
    ("user gone", None, OPEN, FRESH, NOW, RefreshVerdict.REVOKED),
    ("user suspended", SUSPENDED, OPEN, FRESH, NOW, RefreshVerdict.REVOKED),
    ("suspended and spent", SUSPENDED, OPEN, SPENT, NOW, RefreshVerdict.REVOKED),
    ("session gone", ACTIVE, None, FRESH, NOW, RefreshVerdict.REVOKED),
    ("session ended", ACTIVE, ENDED, FRESH, NOW, RefreshVerdict.REVOKED),
    ("logged out", ACTIVE, LOGGED_OUT, FRESH, EARLIER, RefreshVerdict.REVOKED),
    ("logged out and spent", ACTIVE, LOGGED_OUT, SPENT, EARLIER, RefreshVerdict.REVOKED),
    ("newest of a stolen family", ACTIVE, STOLEN, FRESH, EARLIER, RefreshVerdict.REVOKED),
    ("loser of the race", ACTIVE, STOLEN, SPENT, NOW, RefreshVerdict.REUSED),
    (
        "spent again later",
        ACTIVE,
        STOLEN,
        SPENT,
        NOW + timedelta(milliseconds=1),
        RefreshVerdict.REVOKED,
    ),
]


@pytest.mark.parametrize(
    ("user", "session", "token", "presented_at", "verdict"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_refresh_token_is_judged(
    user: User | None,
    session: Session | None,
    token: RefreshToken | None,
    presented_at: datetime,
    verdict: RefreshVerdict,
) -> None:
    """Session and user come before spent, spent before unknown (R1.69, R1.35)."""
    seen = judge_refresh(user, session, token, presented_at=presented_at, now=NOW)

    assert seen is verdict


def test_token_hash_is_sha256_in_hex() -> None:
    """Stored tokens are 64 hex digits that cannot be turned back (R1.36, R2.5)."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert token_hash("abc") == expected
