"""A payment may go from pending to completed without being processed."""

from defects.defect import Defect


def _skip_processing() -> None:
    from system.payments import domain

    pending, completed = domain.PaymentStatus.PENDING, domain.PaymentStatus.COMPLETED
    allowed = domain.TRANSITIONS[pending] | {completed}
    domain.TRANSITIONS = {**domain.TRANSITIONS, pending: allowed}  # type: ignore[misc] # the defect


DEFECT = Defect(
    id="pending-may-complete",
    breaks="an administrator completes a payment that was never processed",
    noticed_by={"payment-lifecycle": r"pending.*completed"},
    patched=("payments",),
    patch=_skip_processing,
)
