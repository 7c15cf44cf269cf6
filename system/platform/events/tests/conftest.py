"""Gives the tests of the event hub a broker and a database of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiormq
import psycopg
import pytest
from aiormq.abc import AbstractChannel

from system.broker import definitions, server
from system.platform import outbox_tables
from system.platform.database import Database
from system.platform.events.connection import Connection
from system.platform.events.topology import topology

USER = "tester"
PASSWORD = "a password of the tests"
START_TIMEOUT_S = 180  # seen: 20 s idle, over a minute on two busy cores


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def eventually(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str, every: float = 0.05
) -> None:
    """Wait until `condition` holds; fail after `seconds` saying `what` did not come."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not seen within {seconds} s: {what}")
        await asyncio.sleep(every)


class Broker:
    """One private RabbitMQ node."""

    def __init__(self, folder: Path) -> None:
        ports = server.Ports(*free_ports(5))
        self.node = server.prepare(
            folder,
            ports,
            definitions.render([definitions.User(USER, PASSWORD, administrator=True)]),
        )
        self.url = f"amqp://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{ports.amqp}"
        self.management = f"http://127.0.0.1:{ports.management}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and wait until it serves."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the node; in the main thread, with whose end it would end (pdeathsig)."""
        with (self.node.folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *self.node.command),
                env=dict(self.node.environment),
                cwd=self.node.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Wait until the node serves."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.node.ready():
            if (
                self._process is None
                or self._process.poll() is not None
                or time.monotonic() > deadline
            ):
                end = (self.node.folder / "node.log").read_text()[-2000:]
                raise RuntimeError(f"the broker did not start: {end}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the node without warning."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Freeze the node; its connections stay open and silent.

        On a busy machine the signal takes a while to reach every thread, so this waits for it.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not _is_frozen(self._process.pid):
            assert time.monotonic() < deadline, "the broker could not be frozen"
            time.sleep(0.01)

    def resume(self) -> None:
        """Let a frozen node go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


def _is_frozen(pid: int) -> bool:
    """Whether every thread of the process is stopped."""
    states = [
        (thread / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        for thread in Path(f"/proc/{pid}/task").iterdir()
    ]
    return bool(states) and set(states) == {"T"}


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A running broker with the contracted topology."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-broker-"))
    node = Broker(folder)
    try:
        node.start()
        yield node
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A running PostgreSQL whose database has outbox and inbox."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    if not binaries:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql; install: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="seatrial-events-"))
    data = folder / "data"
    # PostgreSQL refuses to run as root.
    account: tuple[str, ...] = ("setpriv", "--pdeathsig", "INT")
    if os.geteuid() == 0:
        account += ("--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        shutil.chown(folder, "postgres", "postgres")
    (port,) = free_ports(1)
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    subprocess.run(
        (
            *account,
            str(binaries[-1] / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
        ),
        check=True,
        capture_output=True,
        env=environment,
        cwd="/",
    )
    process = subprocess.Popen(
        (
            *account,
            str(binaries[-1] / "postgres"),
            *("-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", ""),
            *("-c", "fsync=off", "-c", "max_connections=80"),
        ),
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(url, connect_timeout=2, autocommit=True) as made:
                    for statement in outbox_tables.outbox_and_inbox("postgres"):
                        made.execute(statement.encode())
                    made.execute(b"CREATE TABLE effects (place serial, event_id text, note text)")
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """The database, empty."""
    made = Database(database_url, max_size=60, acquire_timeout_s=60, statement_timeout_s=60)
    await made.start()
    await made.execute("TRUNCATE outbox, inbox, effects")
    yield made
    await made.close()


@pytest.fixture
async def connection(broker: Broker) -> AsyncIterator[Connection]:
    """A connection to the broker, whose queues are all empty."""
    made = Connection(broker.url, name="tests")
    await made.start()
    async with asyncio.timeout(30):
        await made.ready()
    channel = await made.channel()
    for queue in topology().queues:
        await channel.queue_purge(queue.name)
    yield made
    await made.close()


@pytest.fixture
async def channel(broker: Broker, connection: Connection) -> AsyncIterator[AbstractChannel]:
    """A channel on a connection of the test's own, after the queues were emptied."""
    own = await aiormq.connect(broker.url)
    yield await own.channel()
    with contextlib.suppress(Exception):
        await own.close()
