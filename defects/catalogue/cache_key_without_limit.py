"""The cache key of a payments list forgets the page size."""

from defects.defect import Defect


def _forget_the_limit() -> None:
    from system.platform.cache import keys

    whole = keys.payment_list

    def payment_list(user_id: str, is_admin: bool, parameters: str) -> keys.Entry:
        page, _, *others = parameters.split("|")
        return whole(user_id, is_admin, "|".join([page, *others]))

    keys.payment_list = payment_list


DEFECT = Defect(
    id="cache-key-without-limit",
    breaks="lists of different page size share one cache entry",
    noticed_by={"cache-freshness": r"limit"},
    patched=("payments",),
    patch=_forget_the_limit,
)
