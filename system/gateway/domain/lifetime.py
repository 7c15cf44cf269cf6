"""When a WebSocket is pinged, warned, ended: deadlines without timers (R4.13, R4.26, R4.31)."""

from __future__ import annotations

from enum import Enum
from typing import Final

PING_INTERVAL_S: Final = 30.0
PONG_TIMEOUT_S: Final = 10.0
EXPIRY_WARNING_S: Final = 60.0


class Due(Enum):
    """What a connection has to do now."""

    PING = "send a protocol ping"
    TERMINATE = "drop the connection: no pong came"
    WARN = "say that the token expires soon"
    EXPIRE = "close: the token has expired"


class Lifetime:
    """The deadlines of one connection.

    Args:
        now_s: the present, on any steady clock.
        expires_s: when the token expires, on the same clock.
    """

    __slots__ = ("_expires", "_ping", "_pong", "_warn")

    def __init__(self, now_s: float, expires_s: float) -> None:
        self._ping = now_s + PING_INTERVAL_S
        self._pong: float | None = None
        self._expires = expires_s
        self._warn: float | None = expires_s - EXPIRY_WARNING_S

    def renew(self, expires_s: float) -> None:
        """Another token counts from now on (R4.12); it gets a warning of its own."""
        self._expires = expires_s
        self._warn = expires_s - EXPIRY_WARNING_S

    def pong(self) -> None:
        """The client has answered."""
        self._pong = None

    def next(self) -> float:
        """When `due` has something to say again."""
        return min(
            self._ping,
            self._expires,
            self._expires if self._warn is None else self._warn,
            self._expires if self._pong is None else self._pong,
        )

    def due(self, now_s: float) -> list[Due]:
        """What the present asks for; each deadline is told once."""
        if now_s >= self._expires:
            return [Due.EXPIRE]
        if self._pong is not None and now_s >= self._pong:
            return [Due.TERMINATE]
        actions: list[Due] = []
        if self._warn is not None and now_s >= self._warn:
            self._warn = None
            actions.append(Due.WARN)
        if now_s >= self._ping:
            self._ping += PING_INTERVAL_S
            if self._ping <= now_s:  # the process slept; one ping makes up for all
                self._ping = now_s + PING_INTERVAL_S
            self._pong = now_s + PONG_TIMEOUT_S
            actions.append(Due.PING)
        return actions
