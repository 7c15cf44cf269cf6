"""Gives the fault tests a platform that is well before and after, and somebody who writes to it."""

from __future__ import annotations

from collections.abc import Iterator

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
