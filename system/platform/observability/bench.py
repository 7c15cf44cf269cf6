"""Measures what tracing costs a request: `python -m system.platform.observability.bench`.

One process, one run, no network: a handler with two spans below its own, called through the whole
HTTP layer with tracing off, with every trace recorded and encoded, and with none sampled.  The
best of several rounds counts, since everything else on the machine only adds.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from litestar import get

from system.platform.config.settings import Settings
from system.platform.http.app import create_app
from system.platform.http.replies import Reply, success
from system.platform.observability import tracing
from system.platform.observability.trace_export import TraceExport

REQUESTS: Final = 3_000
ROUNDS: Final = 5
_TRACEPARENT: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class _Nowhere:
    """A `Sender` that takes everything."""

    def send(self, body: bytes) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is open."""


@get("/x")
async def _handler() -> Reply:
    for name in ("select payments", "redis EVALSHA"):
        with tracing.within(tracing.child(name, tracing.Kind.CLIENT)):
            pass
    return success({"a": 1})


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_message: Any) -> None:
    return None


async def measure(rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, float]:
    """CPU of a request in µs: `off`, `on` (with encoding), `unsampled`."""
    app: Any = create_app(
        Settings(service="bench", service_name="bench"), [_handler], checks={}, essential=()
    )
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "raw_path": b"/x",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"traceparent", _TRACEPARENT)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
        "app": app,
        "state": {},
        "root_path": "",
    }

    async def serve() -> None:
        for _ in range(requests):
            await app(dict(scope), _receive, _send)

    best: dict[str, float] = {}
    try:
        for _ in range(rounds):
            for mode in ("off", "on", "unsampled"):
                export = TraceExport(_Nowhere(), {"service.name": "bench"}, every_s=0.05)
                export.start()
                tracing.turn_off()
                if mode != "off":
                    sampled = mode == "on"
                    tracing.turn_on(export.add, lambda *_, sampled=sampled: sampled)
                started = time.process_time()
                await serve()
                export.close(10.0)
                spent = (time.process_time() - started) / requests * 1e6
                best[mode] = min(spent, best.get(mode, spent))
    finally:
        tracing.turn_off()
    return best


def main() -> None:
    """Print the figures."""
    best = asyncio.run(measure())
    for mode, micros in best.items():
        print(f"{mode:<10} {micros:6.1f} µs a request, {micros / best['off']:.2f} × off")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
