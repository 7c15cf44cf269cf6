"""R0.10, R1.134: the reconciliation goes on until it has succeeded."""

from __future__ import annotations

import asyncio

import pytest

from system.admin.adapters import reconciling
from system.admin.adapters.reconciling import Reconciling
from system.platform.http import errors


async def test_it_tries_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With auth-service away at first; then never again."""
    monkeypatch.setattr(reconciling, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(reconciling, "MOST_DELAY_S", 0.02)
    tries = 0
    succeeded = asyncio.Event()

    async def reconcile() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise errors.service_unavailable() if tries % 2 else ValueError("odd")
        succeeded.set()

    task = Reconciling(reconcile)
    await task.start()
    async with asyncio.timeout(5):
        await succeeded.wait()
    await asyncio.sleep(0.1)
    await task.close()

    assert tries == 4


async def test_it_can_be_stopped_at_any_time() -> None:
    """R0.11: while it waits for somebody who does not answer, and before it began."""

    async def reconcile() -> None:
        await asyncio.Event().wait()

    task = Reconciling(reconcile)
    await task.close()
    await task.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await task.close()
