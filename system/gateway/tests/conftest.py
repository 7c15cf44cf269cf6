"""A client of the edge for the tests on a running platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest


@pytest.fixture
async def http(stack: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Asks from an address that no limit counts."""
    connector = aiohttp.TCPConnector(local_addr=(stack.exempt, 0), ssl=stack.trust, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
