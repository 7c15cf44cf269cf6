"""What auth's tests on the running platform share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from system.auth.tests.platform_client import Client
from system.conftest import RunningStack


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[Client]:
    made = Client(stack)
    yield made
    await made.http.aclose()


@pytest.fixture
async def auth_db(stack: RunningStack) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(stack.database("auth"))
    yield connection
    await connection.close()
