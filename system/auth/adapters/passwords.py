"""Hashes passwords with Argon2id in threads, so that the event loop never waits (R1.66)."""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from system.auth.adapters import legacy_hashes

# The least the contract allows (R0.13).
MINIMUM_MEMORY_KIB = 19456
MINIMUM_TIME = 2
MINIMUM_PARALLELISM = 1


class Argon2Hasher:
    """`ports.PasswordHasher`; Argon2 releases the interpreter lock while it computes.

    Args:
        memory_kib: memory of one hash, KiB; raised to the minimum.
        time: passes over the memory; raised to the minimum.
        parallelism: lanes; raised to the minimum.
        threads: hashes computed at the same time.
    """

    def __init__(
        self, memory_kib: int, time: int, parallelism: int, *, threads: int | None = None
    ) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=max(time, MINIMUM_TIME),
            memory_cost=max(memory_kib, MINIMUM_MEMORY_KIB),
            parallelism=max(parallelism, MINIMUM_PARALLELISM),
            type=argon2.Type.ID,
        )
        self._threads = ThreadPoolExecutor(threads or os.cpu_count() or 1, "argon2")
        # Nobody knows its password; checking against it costs what a real check costs (R1.82).
        self._nobody = self._argon2.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._argon2.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._matches, password, stored)

    def outdated(self, stored: str) -> bool:
        try:
            return self._argon2.check_needs_rehash(stored)
        except InvalidHashError:
            return True  # of another kind

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password: str, stored: str | None) -> bool:
        if stored is not None and legacy_hashes.is_legacy(stored):
            return legacy_hashes.matches(password, stored)
        try:
            return self._argon2.verify(stored or self._nobody, password) and stored is not None
        except VerificationError:
            return False
        except InvalidHashError:
            # A hash of an unknown kind: nothing matches it, in the time that a check takes.
            self._matches(password, None)
            return False
