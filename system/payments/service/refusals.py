"""Every refusal of payments that is not everybody's (R1.18), one function each."""

from __future__ import annotations

from system.payments.domain import PaymentStatus
from system.platform.http import errors
from system.platform.http.errors import ApiError


def payment_not_found() -> ApiError:
    """R1.107: there is no such payment."""
    return errors.missing("PAYMENT_NOT_FOUND", "Payment not found")


def recipient_not_found() -> ApiError:
    """R1.112: an unknown, deleted or suspended user."""
    return errors.missing("RECIPIENT_NOT_FOUND", "Recipient not found")


def self_payment() -> ApiError:
    """R1.108: sender and recipient are one."""
    return ApiError(400, "SELF_PAYMENT_NOT_ALLOWED", "You cannot pay yourself")


def two_recipients() -> ApiError:
    """R1.116: an edit names a recipient by id and by e-mail."""
    return ApiError(400, "INVALID_RECIPIENT", "Give recipientId or recipientEmail, not both")


def not_pending(status: PaymentStatus) -> ApiError:
    """R1.116: an edit comes too late."""
    return ApiError(400, "INVALID_STATUS", f"A payment that is {status.value} cannot be edited")


def impossible_change(before: PaymentStatus, to: PaymentStatus) -> ApiError:
    """R1.115: the state machine has no such change."""
    return errors.conflict(
        "INVALID_STATUS_TRANSITION",
        f"A payment that is {before.value} cannot become {to.value}",
        {"from": before.value, "to": to.value},
    )


def key_reused() -> ApiError:
    """R1.114: the key was used with another body."""
    return errors.conflict(
        "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used with another request body"
    )


def webhook_signature_invalid() -> ApiError:
    """R1.121: nobody but the payment provider may tell."""
    return ApiError(401, "WEBHOOK_SIGNATURE_INVALID", "Webhook signature is missing or invalid")
