"""What answers of payments-service look like, for the API description (R1.154)."""

from __future__ import annotations

from typing import Final

from system.payments.domain import CURRENCIES
from system.payments.entrypoints.requests import STATUSES, TYPES
from system.platform.http.shapes import (
    AMOUNT,
    ANY_OBJECT,
    COUNT,
    EMAIL,
    ID,
    MOMENT,
    PAGINATION,
    TEXT,
    Part,
    array,
    constant,
    map_of,
    nullable,
    one_of,
    shape,
)

PARTY: Final = shape("Party", {"id": ID, "email": EMAIL})
TRANSACTION: Final = shape(
    "PaymentTransaction",
    {
        "id": ID,
        "paymentId": ID,
        "status": one_of(*STATUSES),
        "statusMessage": nullable(TEXT),
        "pspTransactionId": nullable(TEXT),
        "metadata": nullable(ANY_OBJECT),
        "createdAt": MOMENT,
    },
)
_PAYMENT_MEMBERS: Final = {
    "id": ID,
    "senderId": ID,
    "recipientId": nullable(ID),
    "amount": AMOUNT,
    "currency": one_of(*CURRENCIES),
    "status": one_of(*STATUSES),
    "type": one_of(*TYPES),
    "description": nullable(TEXT),
    "metadata": nullable(ANY_OBJECT),
    "pspTransactionId": nullable(TEXT),
    "pspStatus": nullable(TEXT),
    "failureReason": nullable(TEXT),
    "completedAt": nullable(MOMENT),
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
}
PAYMENT: Final = shape("Payment", _PAYMENT_MEMBERS)
PAYMENT_WITH_PARTIES: Final = shape(
    "PaymentWithParties",
    {**_PAYMENT_MEMBERS, "sender": nullable(PARTY), "recipient": nullable(PARTY)},
)
PAYMENT_WITH_ALL: Final = shape(
    "PaymentWithAll", {**PAYMENT_WITH_PARTIES.members, "transactions": array(TRANSACTION)}
)
PAYMENT_PAGE: Final = shape(
    "PaymentPage", {"payments": array(PAYMENT_WITH_PARTIES), "pagination": PAGINATION}
)
RECIPIENTS: Final = array(shape("Recipient", {"id": ID, "email": EMAIL, "name": TEXT}))
REPORT_SHOWN: Final = shape(
    "PaymentReport",
    {
        "totalPayments": COUNT,
        "totalAmount": nullable(AMOUNT),
        "totalsByCurrency": map_of(AMOUNT),
        "byStatus": shape("PaymentsByStatus", dict.fromkeys(STATUSES, COUNT)),
        "byType": shape("PaymentsByType", dict.fromkeys(TYPES, COUNT)),
        "period": shape("Period", {"start": MOMENT, "end": MOMENT}),
    },
)
NOTICE_TAKEN: Final[Part] = shape(
    "WebhookProcessed",
    {"message": constant("Webhook processed successfully"), "duplicate": constant(True)},
    optional=("duplicate",),
)
