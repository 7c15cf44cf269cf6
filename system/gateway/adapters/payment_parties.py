"""Asks payments-service who the parties of a payment are (R1.153, R4.20)."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from system.gateway.adapters.upstream import Upstream
from system.gateway.adapters.upstream_trouble import UpstreamTrouble
from system.gateway.ports import Parties
from system.platform.observability import correlation

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0


class _Data(msgspec.Struct, rename="camel"):
    sender_id: str
    recipient_id: str


class _Envelope(msgspec.Struct):
    data: _Data


class InternalPaymentParties:
    """`GET /internal/payments/:id/parties`.

    Args:
        payments: the service.
        internal_token: value of X-Internal-Token.
    """

    def __init__(self, payments: Upstream, internal_token: str) -> None:
        self._payments = payments
        self._headers = {"X-Internal-Token": internal_token, "Accept": "application/json"}

    async def of(self, payment_id: str) -> Parties | None:
        """See `PaymentParties.of`."""
        try:
            status, body = await self._payments.fetch(
                f"/internal/payments/{payment_id}/parties",
                {**self._headers, **correlation.onward()},
                timeout_s=TIMEOUT_S,
            )
        except UpstreamTrouble as trouble:
            log.warning("payments-service did not say who the parties are: %s", trouble)
            return None
        if status != 200:
            if status != 404:
                log.warning("payments-service answered %d about parties, expected 200", status)
            return None
        try:
            data = msgspec.json.decode(body, type=_Envelope).data
        except msgspec.MsgspecError as error:
            log.warning("payments-service's answer about parties cannot be read: %s", error)
            return None
        return Parties(data.sender_id, data.recipient_id)
