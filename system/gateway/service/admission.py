"""Decides whether a request may go on: limits, token, role (R1.28, R1.29, R1.41-R1.45)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from system.gateway.domain.limits import Quota
from system.gateway.domain.routes import Access
from system.gateway.ports import Authentication, CredentialLimiter, GeneralLimiter
from system.platform.http import errors
from system.platform.security.principal import Principal, require_role

_REMEMBERED: Final = 10_000


class Exemptions:
    """Addresses that no limiter counts (R1.44, R5.20)."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def covers(self, address: str) -> bool:
        """Whether the address is exempt."""
        known = self._known.get(address)
        if known is None:
            known = self._judge(address)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known

    def _judge(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(
            parsed.version == network.version and parsed in network for network in self._networks
        )


class AdmissionService:
    """The gate before everything that is proxied or upgraded.

    Args:
        authentication: judges tokens.
        general: counts requests.
        credential: counts attempts to log in.
        exemptions: who is not counted.
    """

    def __init__(
        self,
        authentication: Authentication,
        general: GeneralLimiter,
        credential: CredentialLimiter,
        exemptions: Exemptions,
    ) -> None:
        self._authentication = authentication
        self._general = general
        self._credential = credential
        self._exemptions = exemptions

    async def count(self, address: str) -> Quota | None:
        """Count a request in the general window; None if it is not counted.

        The caller refuses if the quota is exceeded, and shows it on every answer (R1.42).
        """
        if self._exemptions.covers(address):
            return None
        return await self._general.count(address)

    async def attempt(self, address: str) -> int | None:
        """Count an attempt to log in (R1.43).

        Returns:
            None if it may go on, else the seconds to wait.
        """
        if self._exemptions.covers(address):
            return None
        admission = await self._credential.admit(address)
        return None if admission.allowed else admission.retry_after_s

    async def authorise(self, access: Access, authorization: Sequence[str]) -> Principal | None:
        """Let a caller through.

        Args:
            access: what is asked of the caller.
            authorization: the values of its `Authorization` headers.

        Returns:
            Who it is; None on a public route.

        Raises:
            ApiError: 401 or 403 of R1.28; 503 if the session cannot be judged.
        """
        if access is Access.PUBLIC:
            return None
        if len(authorization) > 1:
            # Gateway and service must not judge two different ones.
            raise errors.token_invalid()
        principal = await self._authentication.authenticate(
            authorization[0] if authorization else None
        )
        if access is Access.ADMIN:
            require_role(principal, "ADMIN")
        return principal

    async def authorise_token(self, token: str) -> Principal:
        """Let the holder of a bare token in (WebSocket); raises as `authorise`."""
        return await self._authentication.authenticate_token(token)
