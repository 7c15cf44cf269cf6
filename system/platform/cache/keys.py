"""Every cache entry and tag of the platform, with its key, lifetime and type (contract 6.2).

    entry                 key                                    TTL s  tags
    user           R6.13  auth:user:<id>                           300  user:<id>
    id by e-mail   R6.22  auth:user:email:<sha256>                 300  user:<id>
    payment        R6.14  payments:payment:<id>                     60  payment:<id>, user: of both
    payment_list   R6.15  payments:list:<user or admin>:<hash>      60  user:<id> or payments,
                                                                        party: of all shown
    payment_report R6.16  payments:report:<user or admin>:…        300  user:<id> or payments
    recipients     R6.17  payments:recipients:<user>                60  recipients
    profile        R6.18  profile:profile:<user>                   300  user:<id>
    preferences    R6.19  profile:preferences:<user>               300  user:<id>

A tag belongs to the service whose `Cache` uses it, so equal names of two services never meet
(R6.20).  `party:<id>` goes beyond the contract's table: a list shows the e-mail of each party, so
a renamed or deleted person must void the lists of the others too (R6.6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SERVICES: Final = ("auth", "payments", "admin", "profile")
# First words of entries, with their `cache_type`.
_TYPES: Final = {
    "auth:user:": "user",
    "payments:payment:": "payment",
    "payments:list:": "payment_list",
    "payments:report:": "payment_report",
    "payments:recipients:": "recipients",
    "profile:profile:": "profile",
    "profile:preferences:": "preferences",
}
# The same of entries and of what goes with them: tag records, marks of done removals.
_CACHED: Final = (
    *_TYPES,
    *(f"{service}:{word}:" for service in SERVICES for word in ("tag", "done")),
)
# Shared by every list and report of administrators: one answer for all of them.
ADMIN_VIEWER: Final = "admin"
# Tag records outlive the longest entry and the longest load, then go by themselves (R6.20).
TAG_TTL_S: Final = 600


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an answer is kept.

    Attributes:
        key: name in Redis.
        ttl_s: lifetime in seconds.
        cache_type: label of the metrics (R7.6).
        tags: what removes it; those only the loaded value tells are added when it is stored.
        counted: whether a read counts as hit or miss; only reads that end in an X-Cache do (R7.14).
    """

    key: str
    ttl_s: int
    cache_type: str
    tags: tuple[str, ...] = ()
    counted: bool = True


def user(user_id: str) -> Entry:
    """The user object of `GET /api/auth/me` (R6.13)."""
    return Entry(f"auth:user:{user_id}", 300, "user", (user_tag(user_id),))


def user_id_by_email(email: str) -> Entry:
    """The id that belongs to a normalised e-mail; `user_tag(<id>)` is added when stored (R6.22)."""
    digest = hashlib.sha256(email.encode()).hexdigest()
    return Entry(f"auth:user:email:{digest}", 300, "user", counted=False)


def payment(payment_id: str) -> Entry:
    """One payment with relations; tags of its parties are added when stored (R6.14)."""
    return Entry(f"payments:payment:{payment_id}", 60, "payment", (payment_tag(payment_id),))


def payment_list(user_id: str, is_admin: bool, parameters: str) -> Entry:
    """A page of payments (R6.15).

    Args:
        user_id: who reads.
        is_admin: whether all payments are seen instead of the reader's own.
        parameters: every list parameter in normal form; equal only if the answers are equal.
    """
    viewer = ADMIN_VIEWER if is_admin else user_id
    digest = hashlib.sha256(parameters.encode()).hexdigest()[:32]
    return Entry(
        f"payments:list:{viewer}:{digest}", 60, "payment_list", (_viewer_tag(user_id, is_admin),)
    )


def payment_report(user_id: str, is_admin: bool, start: str, end: str, currency: str) -> Entry:
    """A report from `start` to `end`; currency "" for all (R6.16).

    A bound is written YYYY-MM-DD where it is the bound of a whole UTC day, else as its moment.
    """
    viewer = ADMIN_VIEWER if is_admin else user_id
    return Entry(
        f"payments:report:{viewer}:{start}:{end}:{currency}",
        300,
        "payment_report",
        (_viewer_tag(user_id, is_admin),),
    )


def recipients(user_id: str) -> Entry:
    """Whom a user can pay (R6.17)."""
    return Entry(f"payments:recipients:{user_id}", 60, "recipients", (RECIPIENTS_TAG,))


def profile(user_id: str) -> Entry:
    """A user's profile (R6.18)."""
    return Entry(f"profile:profile:{user_id}", 300, "profile", (user_tag(user_id),))


def preferences(user_id: str) -> Entry:
    """A user's preferences (R6.19)."""
    return Entry(f"profile:preferences:{user_id}", 300, "preferences", (user_tag(user_id),))


PAYMENTS_TAG: Final = "payments"
RECIPIENTS_TAG: Final = "recipients"


def user_tag(user_id: str) -> str:
    """All that belongs to a user."""
    return f"user:{user_id}"


def payment_tag(payment_id: str) -> str:
    """All that shows one payment alone."""
    return f"payment:{payment_id}"


def party_tag(user_id: str) -> str:
    """All that shows a user's e-mail beside somebody's payments."""
    return f"party:{user_id}"


def after_payment_change(payment_id: str, party_ids: Iterable[str | None]) -> tuple[str, ...]:
    """Tags a payment's write removes (R6.20).

    Args:
        payment_id: the payment.
        party_ids: sender, recipient and a former recipient; None for nobody.
    """
    parties = dict.fromkeys(user_tag(party) for party in party_ids if party is not None)
    return (payment_tag(payment_id), *parties, PAYMENTS_TAG)


def after_user_change_in_payments(user_id: str) -> tuple[str, ...]:
    """Tags a changed or deleted user removes in payments (R6.20)."""
    return (user_tag(user_id), party_tag(user_id), RECIPIENTS_TAG)


def after_user_change(user_id: str) -> tuple[str, ...]:
    """Tags a changed or deleted user removes in auth, or a changed profile in profile (R6.20)."""
    return (user_tag(user_id),)


def cache_types(service: str) -> dict[str, str]:
    """The `cache_type` of a service's entries by the first words of their keys."""
    return {
        prefix: cache_type
        for prefix, cache_type in _TYPES.items()
        if prefix.startswith(f"{service}:")
    }


def is_cached(key: str) -> bool:
    """Whether a key of Redis belongs to the cache, so that losing it loses nothing."""
    return key.startswith(_CACHED)


def _viewer_tag(user_id: str, is_admin: bool) -> str:
    return PAYMENTS_TAG if is_admin else user_tag(user_id)
