"""A service takes the loss of its database for an error that nobody could expect."""

from defects.defect import Defect


def _expect_nothing() -> None:
    from system.platform import database

    def is_unreachable(error: BaseException) -> bool:
        return False

    database._is_unreachable = is_unreachable


DEFECT = Defect(
    id="database-trouble-unexpected",
    breaks="payments-service answers 500 instead of 503 while its database is away",
    noticed_by={"database-outage": r"payments stop: .*seen 500 INTERNAL_ERROR"},
    patched=("payments",),
    patch=_expect_nothing,
)
