"""A service that lost its database does not ask for it again for twenty seconds."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from defects.defect import Defect

_SECONDS = 20.0  # the gate is 10 s


def _give_up() -> None:
    from system.platform import database
    from system.platform.http import errors

    acquired = database.Database._acquired
    again = [0.0]

    @asynccontextmanager
    async def patient(self: database.Database, seconds: float | None = None) -> AsyncIterator[Any]:
        if time.monotonic() < again[0]:
            raise errors.service_unavailable()
        try:
            async with acquired(self, seconds) as connection:
                yield connection
        except errors.ApiError as error:
            if error.status == 503:
                again[0] = time.monotonic() + _SECONDS
            raise

    database.Database._acquired = patient  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="database-given-up-for-long",
    breaks="payments-service refuses everything for 20 s after it lost its database for a moment",
    noticed_by={"database-outage": r"payments stop: healing"},
    patched=("payments",),
    patch=_give_up,
)
