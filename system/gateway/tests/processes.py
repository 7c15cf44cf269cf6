"""Gateways beside or instead of the stack's own: a second one, and one whose clock runs faster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp

# R4.31's 30 s and 10 s made short from outside: the module is changed before the gateway starts.
_SHORT_PINGS: Final = """
import runpy, sys
from system.gateway.domain import lifetime
lifetime.PING_INTERVAL_S = 1.5
lifetime.PONG_TIMEOUT_S = 0.75
module = sys.argv[sys.argv.index("-m") + 1]
sys.argv = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
SHORT_PINGS: Final = ("python", "-c", _SHORT_PINGS)


@contextlib.asynccontextmanager
async def second_gateway(stack: Any, **variables: str) -> AsyncIterator[str]:
    """Start another gateway with the variables of the stack's own; yields its URL when ready.

    Args:
        stack: the running platform.
        variables: what is different.
    """
    launch = json.loads((stack.folder / "run" / "gateway.json").read_text("utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = await asyncio.create_subprocess_exec(
        *launch["command"],
        cwd=stack.folder / launch["folder"],
        env={**launch["environment"], "API_GATEWAY_PORT": str(port), **variables},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _ready(url, started)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.terminate()
        async with asyncio.timeout(15):
            await started.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            assert process.returncode is None, f"the second gateway ended: {process.returncode}"
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/health/ready") as answer:
                    if (await answer.json()).get("data", {}).get("status") == "ready":
                        return
            await asyncio.sleep(0.05)
