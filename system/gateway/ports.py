"""What the gateway needs from outside; adapters and the tests' fakes implement it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from system.gateway.domain.limits import Admission, Quota
from system.gateway.domain.routes import Service
from system.platform.security.principal import Principal


class Authentication(Protocol):
    """Judges access tokens and their sessions (R1.28); the platform's `Authenticator` is one."""

    async def authenticate(self, authorization_header: str | None) -> Principal:
        """Who sent this `Authorization` header; raises the ApiErrors of R1.28, or 503."""

    async def authenticate_token(self, token: str) -> Principal:
        """Whom a bare access token stands for; raises likewise."""


class Sessions(Protocol):
    """Says whether the session of a principal known from before is still open."""

    async def ensure_open(self, claims: Any) -> None:
        """Return if it is; raises ApiError 401 TOKEN_REVOKED, or 503 if nobody can say."""


class GeneralLimiter(Protocol):
    """Counts all requests of an address over all gateway processes (R1.41)."""

    async def count(self, address: str) -> Quota | None:
        """Count one request; None if it cannot be counted and therefore passes (R1.45)."""


class CredentialLimiter(Protocol):
    """Counts attempts to log in, register and refresh (R1.43); always in force (R1.45)."""

    async def admit(self, address: str) -> Admission:
        """Judge one attempt."""


@dataclass(frozen=True, slots=True)
class Parties:
    """The two sides of a payment."""

    sender_id: str
    recipient_id: str


class PaymentParties(Protocol):
    """Knows who may enter a payment's room (R4.20)."""

    async def of(self, payment_id: str) -> Parties | None:
        """The parties; None for an unknown payment or if nobody can say."""


class ServiceDescriptions(Protocol):
    """Knows what the routes of each service take and give (R1.154)."""

    async def of(self, service: Service) -> Mapping[str, Any] | None:
        """`paths` and `components` of a service, with its own paths; None if it does not say."""


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """What a service answered.

    Attributes:
        status: HTTP status.
        body: whole.
        retry_after: the header, None without it.
    """

    status: int
    body: bytes
    retry_after: str | None = None


class Rest(Protocol):
    """Calls the REST routes of the services."""

    async def send(
        self,
        service: Service,
        method: str,
        target: str,
        lines: Sequence[bytes],
        body: bytes | None,
        *,
        internal: bool = False,
    ) -> RestAnswer:
        """Send a request and take the whole answer; nothing is sent twice.

        Args:
            service: who answers.
            method: in upper case.
            target: path at the service and query, escaped.
            lines: headers without line ends, framing excluded.
            body: JSON, None for none.
            internal: show that the gateway asks, for a route that is not public (R1.153).

        Raises:
            ApiError: 502 or 504 of R1.12 and R1.13.
        """


class Outlet(Protocol):
    """The sending side of one WebSocket connection."""

    def send(self, frame: bytes) -> None:
        """Queue a frame; a reader too slow for it is closed with 1013 (R4.29)."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye after what is queued; nothing is sent after it."""

    def abort(self) -> None:
        """Drop the connection without a word; the client sees 1006."""


@dataclass(frozen=True, slots=True)
class BridgedEvent:
    """An event as the bridge hands it over (R3.11).

    Attributes:
        id: of the event.
        type: its own type, `payment.completed`.
        timestamp: in the form of R0.4.
        correlation_id: of the request that caused it.
        data: as published.
    """

    id: str
    type: str
    timestamp: str
    correlation_id: str
    data: Mapping[str, Any]


Deliver = Callable[[BridgedEvent], None]


class Bridge(Protocol):
    """Brings every event of the exchange to this process while it runs (R3.6, R4.24)."""

    async def start(self, deliver: Deliver) -> None:
        """Begin; never fails while the broker is down."""

    async def close(self) -> None:
        """Stop and give the queue back."""

    async def health(self) -> bool:
        """Whether the broker answers."""
