"""Gives the fault tests a platform that is well before and after, and somebody who writes to it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator

import pytest

from system.conftest import RunningStack
from system.tests.desks import Desk


@pytest.fixture
def well(stack: RunningStack) -> Iterator[RunningStack]:
    """The platform, every part ready; a test that leaves it otherwise fails for that."""
    stack.until_ready()
    yield stack
    stack.until_ready()


@pytest.fixture
def desk(well: RunningStack) -> Iterator[Desk]:
    """Writes to every service, as customer or administrator."""
    made = Desk(well)
    yield made
    made.close()


@pytest.fixture
def sign(stack: RunningStack) -> Callable[[bytes], dict[str, str]]:
    """Makes the headers of the payment provider for a body (R1.121)."""
    secret = stack.target["access"]["webhooks"]["secret"].encode()

    def headers(body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        digest = hmac.new(secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-Webhook-Timestamp": now,
            "X-Webhook-Signature": f"sha256={digest}",
        }

    return headers
