"""Services behind a name: connections are spread over all addresses it has."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from system.gateway.adapters.upstream_instance import Instance


async def test_connections_go_to_each_address_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the resolver stays the same; one that is away is passed over."""
    met: Counter[str] = Counter()

    another = asyncio.Event()

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met[writer.get_extra_info("sockname")[0]] += 1
        another.set()
        writer.close()

    first = await asyncio.start_server(meet, "127.0.0.21", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(meet, "127.0.0.22", port)

    def look(host: str, number: int, *_: Any, **__: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [host] if host[0].isdigit() else ["127.0.0.21", "127.0.0.22"]
        return [(*kind, (address, number)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    instance = Instance(f"http://auth.inside:{port}", None)

    async def connect(times: int) -> None:
        for _ in range(times):
            another.clear()
            (await instance.connect()).abort()
            await asyncio.wait_for(another.wait(), 10)

    await connect(4)
    assert met == {"127.0.0.21": 2, "127.0.0.22": 2}

    first.close()
    await first.wait_closed()
    await connect(2)
    assert met == {"127.0.0.21": 2, "127.0.0.22": 4}
    second.close()
