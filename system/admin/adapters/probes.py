"""Asks other processes whether they can do their work (R1.143)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp

from system.admin.service.health import PROBE_TIMEOUT_S
from system.platform.http import client


class HttpProbes:
    """Asks `/health/ready`; one connection each, so that a hanging process holds nothing up."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None

    async def is_ready(self, urls: Sequence[str]) -> bool:
        """Say whether one of the instances is ready: callers go on to that one (R0.13).

        The first that is decides; others may hang.
        """
        asking = [asyncio.create_task(self._ask(url)) for url in urls]
        try:
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return True
            return False
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _ask(self, url: str) -> bool:
        if self._http is None:
            self._http = client.session(PROBE_TIMEOUT_S)
        try:
            async with self._http.get(f"{url.rstrip('/')}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
