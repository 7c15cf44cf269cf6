"""The route of the payment provider: no token, but a signature over time and body (R1.118, R1.121).

X-Webhook-Timestamp: <unix seconds>
X-Webhook-Signature: sha256=<hex of HMAC-SHA256(secret, timestamp + "." + raw body)>
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Any, Final, cast

from litestar import Request, post

from system.payments.entrypoints.requests import NOTICE, SIGNATURE, SIGNED, TIMESTAMP, notice_of
from system.payments.entrypoints.shapes import NOTICE_TAKEN
from system.payments.service.changes import PaymentChanges
from system.payments.service.refusals import webhook_signature_invalid
from system.platform.http.openapi import PUBLIC, operation
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_of, raw_body

# R1.121: a call that was overheard is of no use later.
TOLERANCE_S: Final = 300
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
PROCESSED: Final = "Webhook processed successfully"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Sign a call as the payment provider does."""
    signed = timestamp.encode("latin-1") + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def is_timely(timestamp: str | None, now: float) -> bool:
    """Whether a call's time is at most `TOLERANCE_S` off.

    Args:
        timestamp: value of X-Webhook-Timestamp.
        now: the present in unix seconds.
    """
    if timestamp is None or _SECONDS.fullmatch(timestamp) is None:
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_S


def routes(secret: str) -> list[Any]:
    """Return the provider's route.

    Args:
        secret: PSP_WEBHOOK_SECRET.
    """

    @post("/webhooks/payments")
    @operation(
        "Take a notice of the payment provider",
        who=PUBLIC,
        headers=SIGNED,
        body=NOTICE,
        answers={200: NOTICE_TAKEN},
        errors={
            401: ["WEBHOOK_SIGNATURE_INVALID"],
            404: ["PAYMENT_NOT_FOUND"],
            409: ["INVALID_STATUS_TRANSITION"],
        },
    )
    async def payment_notice(request: Request[Any, Any, Any]) -> Reply:
        """R1.118."""
        timestamp, given = request.headers.get(TIMESTAMP), request.headers.get(SIGNATURE)
        if timestamp is None or given is None or not is_timely(timestamp, time.time()):
            raise webhook_signature_invalid()
        body = await raw_body(request)
        expected = signature(secret, timestamp, body)
        if not hmac.compare_digest(given.encode("latin-1"), expected.encode("latin-1")):
            raise webhook_signature_invalid()
        changes = cast("PaymentChanges", request.app.state.changes)
        new = await changes.notice(notice_of(json_of(request, body)))
        data: dict[str, Any] = {"message": PROCESSED}
        if not new:
            data["duplicate"] = True
        return success(data)

    return [payment_notice]
