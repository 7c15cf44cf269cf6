"""Waits for an answer no longer than a limit, but does not blame others for its own delay."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

# A timer that fires this much late tells that the process itself was held up.
_HELD_UP_S: Final = 0.03
# Time to read what arrived meanwhile.
_GRACE_S: Final = 0.05


class Patience:
    """As `asyncio.timeout`, with one short grace when the event loop was late itself.

    On a busy machine a process may stand still for longer than the limit while the answer waits
    in its socket.  That is no trouble with the other side, and must not be taken for it.

    Args:
        limit_s: seconds to wait.
        grace_s: seconds more, once, if the loop was late.

    Raises:
        TimeoutError: on leaving, if the limit passed.
    """

    __slots__ = (
        "_cancelling",
        "_expired",
        "_grace_s",
        "_graced",
        "_limit_s",
        "_loop",
        "_task",
        "_timer",
        "_when",
    )

    def __init__(self, limit_s: float, grace_s: float = _GRACE_S) -> None:
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._expired = False
        self._graced = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "used outside of a task"
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._set(self._limit_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError(f"no answer in {self._limit_s:.3f} s") from error

    def _set(self, delay_s: float) -> None:
        self._when = self._loop.time() + delay_s
        self._timer = self._loop.call_at(self._when, self._on_due)

    def _on_due(self) -> None:
        if not self._graced and self._loop.time() - self._when > _HELD_UP_S:
            self._graced = True
            self._set(self._grace_s)
        else:
            self._expired = True
            self._task.cancel()
