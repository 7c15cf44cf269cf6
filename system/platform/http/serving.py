"""Serves an application until SIGTERM, and lets callers leave before it ends (R0.11)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import uvicorn
from litestar import Litestar

from system.platform.config.settings import Settings
from system.platform.http.outermost import Outermost
from system.platform.observability import telemetry

# R0.11
GRACE_S: Final = 10
# Longer than callers keep idle connections, so that none is closed under a request on its way.
_KEEP_ALIVE_S: Final = 75
# After SIGTERM, idle connections stay open until callers that keep theirs for 4 s or less, as the
# gateway does, have left by themselves: closing one could meet a request on its way.
_LEAVE_S: Final = 4.5
_LEAVE_POLL_S: Final = 0.02


class _Server(uvicorn.Server):
    """Ends with exit code 0 on SIGTERM (R0.11), where uvicorn would raise the signal once more.

    At SIGTERM it accepts no new connection, and callers leave those they have: one in use after
    its next answer, an idle one by itself. So no request is lost when another instance serves on.

    Args:
        config: uvicorn's.
        leave: called when callers are to leave.
    """

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let callers leave, then finish what is in flight; `GRACE_S` seconds together."""
        began = time.monotonic()
        for server in self.servers:
            server.close()
        self._leave()
        await self._emptied(began + _LEAVE_S)
        self.config.timeout_graceful_shutdown = max(1, round(began + GRACE_S - time.monotonic()))
        await super().shutdown(sockets)

    async def _emptied(self, deadline: float) -> None:
        connections = self.server_state.connections
        while connections and not self.force_exit and time.monotonic() < deadline:
            for connection in list(connections):
                if _idle_for(connection) > _LEAVE_S:
                    connection.shutdown()
            await asyncio.sleep(_LEAVE_POLL_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _idle_for(connection: Any) -> float:
    """Seconds since a connection's last answer; 0 while a request is under way or none came yet."""
    timer = connection.timeout_keep_alive_task
    if timer is None or timer.cancelled():
        return 0.0
    return float(_KEEP_ALIVE_S - (timer.when() - asyncio.get_running_loop().time()))


def run(app: Litestar, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight, at most `GRACE_S` seconds."""
    config = uvicorn.Config(
        app,
        host=settings.bind_address,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
    )
    config.load()
    # What was imported so far lives as long as the process; no collection need look at it again.
    gc.collect()
    gc.freeze()
    outermost = app.asgi_handler
    assert isinstance(outermost, Outermost)
    telemetry.start(settings)
    try:
        _Server(config, outermost.leave).run()
    finally:
        telemetry.stop()
