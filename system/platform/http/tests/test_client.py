"""Calls between services where a name has several addresses that come and go."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiohttp import web

from system.platform.http import client


class Names:
    """A name server with one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def look(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        """Stand in for `socket.getaddrinfo`."""
        if host != "auth.inside":
            raise OSError(f"{host} is not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in self.addresses]


async def _served(address: str, port: int = 0) -> tuple[web.AppRunner, int]:
    async def name(_: web.Request) -> web.Response:
        return web.Response(text=address, headers={"Connection": "close"})

    app = web.Application()
    app.router.add_get("/", name)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, address, port)
    await site.start()
    return runner, int(runner.addresses[0][1])


async def test_members_are_asked_in_turn_as_they_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both get their share; one that restarts is passed over, the one that is back is asked."""
    names = Names("127.0.0.22")
    monkeypatch.setattr(socket, "getaddrinfo", names.look)
    second, port = await _served("127.0.0.22")

    async def asked(calls: int) -> set[str]:
        found = set()
        for _ in range(calls):
            async with http.get(f"http://auth.inside:{port}/") as answer:
                found.add(await answer.text())
        return found

    async with client.session(5.0) as http:
        assert await asked(2) == {"127.0.0.22"}
        first, _ = await _served("127.0.0.21", port)
        await second.cleanup()
        names.addresses = ["127.0.0.21"]
        assert await asked(2) == {"127.0.0.21"}, "the one that is back when the other is away"
        second, _ = await _served("127.0.0.22", port)
        names.addresses = ["127.0.0.21", "127.0.0.22"]
        assert await asked(4) == {"127.0.0.21", "127.0.0.22"}
        await first.cleanup()
        assert await asked(4) == {"127.0.0.22"}, "the name still has both addresses"
    await second.cleanup()
