"""A timer that wakes the event loop to the microsecond, which uvloop's own (1 ms) does not."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class PreciseTimer:
    """One alarm, set to absolute times of `time.perf_counter` (CLOCK_MONOTONIC on Linux).

    Args:
        loop: the loop to wake.
        alarm: called at each set time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, alarm: Callable[[], None]) -> None:
        # os.timerfd_create comes with Python 3.13 only.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed; the engine needs Linux")
        self._specification = _TimerSpec()
        self._reference = ctypes.byref(self._specification)
        self._alarm = alarm
        self._loop = loop
        loop.add_reader(self._fd, self._rang)

    def set(self, when: float) -> None:
        """Ring at this time; a time that has passed rings at once; replaces an earlier setting."""
        seconds = int(when)
        value = self._specification.value
        value.seconds = seconds
        value.nanoseconds = max(1, int((when - seconds) * 1e9))  # all zero would disarm it
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None)

    def _rang(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew between ringing and reading
        self._alarm()

    def close(self) -> None:
        """Disarm and free it."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
