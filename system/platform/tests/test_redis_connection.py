"""Holds the shared connection to Redis to its promises, against a Redis that goes and comes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoScriptError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from system.platform.redis_connection import connect

PASSWORD = "of-the-tests"
TIMEOUT_S = 0.5


class Server:
    """A redis-server of the tests' own that asks for a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, password: str = PASSWORD, database: int = 0) -> str:
        return f"redis://:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._folder), "--save", "", "--requirepass", PASSWORD),
            ],
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            with suppress(RedisError), self.look() as client:
                client.ping()
                return
            time.sleep(0.02)
        raise AssertionError("redis-server not ready in 20 s")

    def look(self) -> BlockingRedis:
        return BlockingRedis(port=self.port, password=PASSWORD, socket_timeout=5)

    def connections(self) -> int:
        """How many clients it has, but for the one that asks."""
        with self.look() as client:
            return len(client.client_list()) - 1

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    redis_server = Server(tmp_path)
    redis_server.start()
    yield redis_server
    if redis_server.process is not None:
        redis_server.signal(signal.SIGCONT)
    redis_server.kill()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    made = connect(server.url(), timeout_s=TIMEOUT_S)
    yield made
    await made.aclose()


async def test_all_commands_share_one_connection(server: Server, client: Redis) -> None:
    """However many run at once, each gets its own answer, over one connection."""
    await asyncio.gather(*(client.set(f"k{n}", n) for n in range(200)))

    answers = await asyncio.gather(*(client.get(f"k{n}") for n in range(200)))

    assert answers == [str(n).encode() for n in range(200)]
    assert server.connections() == 1


async def test_who_goes_away_takes_no_answer_of_others(client: Redis) -> None:
    """A cancelled command's answer is dropped; the next ones get theirs."""
    await client.mset({"a": "1", "b": "2"})
    gone = asyncio.ensure_future(client.get("a"))
    other = asyncio.ensure_future(client.get("b"))
    await asyncio.sleep(0)

    gone.cancel()

    assert await other == b"2"
    assert await client.get("a") == b"1"


async def test_answers_are_those_of_redis_py(client: Redis) -> None:
    """Words, lists, errors and commands of two words arrive as from redis-py itself."""
    assert await client.set("a", "x") is True
    assert await client.mget("a", "none") == [b"x", None]
    assert (await client.info("server"))["redis_mode"] == "standalone"
    assert len(await client.script_load("return 1")) == 40
    with pytest.raises(NoScriptError):
        await client.evalsha("0" * 40, 0)
    assert [key async for key in client.scan_iter("a*")] == [b"a"]


async def test_the_database_of_the_url_is_chosen(server: Server) -> None:
    """What the URL says is done before the first command."""
    client = connect(server.url(database=3))
    await client.set("a", "x")
    await client.aclose()

    with server.look() as look:
        assert look.get("a") is None
        look.execute_command("SELECT", 3)
        assert look.get("a") == b"x"


async def test_a_wrong_password_is_an_error_each_time(server: Server) -> None:
    """A connection that was not let in is not used, and none is left behind."""
    client = connect(server.url(password="wrong"))

    for _ in range(2):
        with pytest.raises(AuthenticationError):
            await client.get("a")

    await client.aclose()
    assert server.connections() == 0


async def test_a_hanging_redis_costs_the_time_out_and_heals(server: Server, client: Redis) -> None:
    """All who wait are told after the time-out; after its return commands run again."""
    await client.set("a", "x")
    server.signal(signal.SIGSTOP)
    began = time.monotonic()

    failed = await asyncio.gather(*(client.get("a") for _ in range(5)), return_exceptions=True)

    assert [type(error) for error in failed] == [RedisTimeoutError] * 5
    assert time.monotonic() - began >= TIMEOUT_S
    server.signal(signal.SIGCONT)
    assert await client.get("a") == b"x"


async def test_a_connection_that_hangs_is_given_up_though_its_callers_went(
    server: Server, client: Redis
) -> None:
    """Callers with less patience than the time-out do not keep a dead connection alive."""
    await client.set("a", "x")
    server.signal(signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.get("a")

    # Whoever waits from here on is told when the oldest question is too old, before its own time.
    began = time.monotonic()
    with pytest.raises(RedisTimeoutError):
        await client.get("a")
    assert time.monotonic() - began < TIMEOUT_S
    server.signal(signal.SIGCONT)
    assert await client.get("a") == b"x"


def test_a_process_that_was_held_up_does_not_blame_redis(server: Server) -> None:
    """An answer that waited in the socket while this process stood still counts.

    On the services' event loop, which looks at its timers before it reads.
    """

    async def ask() -> object:
        client = connect(server.url(), timeout_s=TIMEOUT_S)
        await client.set("a", "x")
        asked = asyncio.ensure_future(client.get("a"))
        await asyncio.sleep(0)
        time.sleep(TIMEOUT_S + 0.2)  # noqa: ASYNC251 - the event loop is to stand still
        answer = await asked
        await client.aclose()
        return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == b"x"


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_connection_that_died_unseen(server: Server, repeatable: bool) -> None:
    """A repeatable command goes again on a fresh connection, another fails once."""
    client = connect(server.url(), timeout_s=5, repeatable=repeatable)
    await client.set("a", "x")
    server.kill()
    server.start()

    if repeatable:
        assert await client.get("a") is None
    else:
        with pytest.raises(RedisConnectionError):
            await client.get("a")
        assert await client.get("a") is None
    await client.aclose()


async def test_a_redis_that_is_away_is_told_to_all_and_found_when_back(server: Server) -> None:
    """Nothing is opened before the first command; those who find none try together."""
    server.kill()
    client = connect(server.url())

    failed = await asyncio.gather(*(client.get("a") for _ in range(3)), return_exceptions=True)

    assert all(isinstance(error, RedisConnectionError) for error in failed)
    server.start()
    assert await client.get("a") is None
    await client.aclose()
