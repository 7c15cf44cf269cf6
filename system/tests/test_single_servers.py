"""Schema, event hub and cache against single servers in containers, as testcontainers starts them.

Servers of other builds than this machine's: the images that `python -m system images build` makes,
or those that POSTGRES_IMAGE, RABBITMQ_IMAGE and REDIS_IMAGE name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

import psycopg
import pytest

from system.images.build import Images
from system.platform.cache.answers import Loaded, Outcome
from system.platform.cache.cache import Cache
from system.platform.cache.keys import Entry
from system.platform.cache.notices import NullNotices
from system.platform.events.connection import Connection, declare
from system.platform.events.envelope import Event, new_event, now
from system.platform.events.hub import EventContext, EventHub
from system.stack import docker_engine
from system.stack.schema import bring_up_to_date

pytestmark = [
    pytest.mark.engine,
    # testcontainers' module for RabbitMQ waits in a way that testcontainers has deprecated
    pytest.mark.filterwarnings("ignore:The @wait_container_is_ready:DeprecationWarning"),
]

_PASSWORD = "a-password-of-the-tests"


@pytest.fixture(scope="module")
def images() -> Mapping[str, str]:
    """Image names by variable of compose.yaml."""
    from testcontainers.core.config import ConnectionMode, testcontainers_config

    if not docker_engine.reachable():
        pytest.fail(f"no Docker engine at {docker_engine.host()}; `python -m system engine up`")
    # No reaper: a container ends with its block; a private engine takes along what is left.
    testcontainers_config.ryuk_disabled = True
    testcontainers_config.connection_mode_override = ConnectionMode.docker_host
    wanted = ("POSTGRES_IMAGE", "RABBITMQ_IMAGE", "REDIS_IMAGE")
    named = {name: os.environ[name] for name in wanted if os.environ.get(name)}
    return named if len(named) == len(wanted) else {**Images().build(), **named}


@pytest.fixture
def postgres(images: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Host and port of a PostgreSQL of which only the superuser is there."""
    from testcontainers.community.postgres import PostgresContainer

    server = PostgresContainer(
        images["POSTGRES_IMAGE"], username="postgres", password=_PASSWORD, dbname="postgres"
    )
    with server:
        yield server.get_container_host_ip(), int(server.get_exposed_port(5432))


@pytest.fixture
def rabbitmq(images: Mapping[str, str]) -> Iterator[str]:
    """URL of a RabbitMQ with nothing in it."""
    from testcontainers.community.rabbitmq import RabbitMqContainer

    server = RabbitMqContainer(images["RABBITMQ_IMAGE"], username="tester", password=_PASSWORD)
    with server:
        port = server.get_exposed_port(5672)
        yield f"amqp://tester:{_PASSWORD}@{server.get_container_host_ip()}:{port}/"


@pytest.fixture
def redis(images: Mapping[str, str]) -> Iterator[str]:
    """URL of a Redis with a password."""
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(images["REDIS_IMAGE"], password=_PASSWORD) as server:
        port = server.get_exposed_port(6379)
        yield f"redis://:{_PASSWORD}@{server.get_container_host_ip()}:{port}/0"


def test_a_cluster_gets_roles_and_schema_and_keeps_them(postgres: tuple[str, int]) -> None:
    """R0.19, R2.2: the service's role reads and writes, and changes no schema; twice is once."""
    host, port = postgres

    def url(role: str) -> str:
        return f"postgresql://payments_{role}:{_PASSWORD}@{host}:{port}/payments_db"

    environ = {
        "PAYMENTS_SUPERUSER_PASSWORD": _PASSWORD,
        "PAYMENTS_DATABASE_URL": url("service"),
        "PAYMENTS_MIGRATION_DATABASE_URL": url("owner"),
    }

    version = bring_up_to_date("payments", environ)

    assert version is not None
    assert bring_up_to_date("payments", environ) == version
    with psycopg.connect(url("service"), autocommit=True) as service:
        row = service.execute("SELECT count(*) FROM payments").fetchone()
        assert row == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("DROP TABLE payments")


async def test_events_go_through_a_broker_that_was_empty(rabbitmq: str) -> None:
    """R3.1, R3.17: what is declared carries a batch to a subscriber, whole and in order."""
    connection = Connection(rabbitmq, name="single")
    await connection.start()
    try:
        async with asyncio.timeout(60):
            await connection.ready()
            await declare(await connection.channel())
            hub = EventHub(connection)
            arrived: asyncio.Queue[Event] = asyncio.Queue()

            async def take(event: Event, context: EventContext) -> None:
                arrived.put_nowait(event)

            subscription = await hub.subscribe(take, routing_key="profile.#", prefetch=5)
            sent = [_event(number) for number in range(100)]
            await hub.publish_batch(sent)
            seen = [await arrived.get() for _ in sent]
            await subscription.close()
    finally:
        await connection.close()

    assert [event.id for event in seen] == [event.id for event in sent]


async def test_a_read_is_kept_until_a_write_takes_it(redis: str) -> None:
    """R6.2, R6.20: a second read is a HIT, and a write of its person makes the next a MISS."""
    loads = 0

    async def load() -> Loaded:
        nonlocal loads
        loads += 1
        return Loaded(str(loads).encode(), note=b"")

    entry = Entry("payments:list:u1:abc", 60, "payment_list", ("user:u1",))
    cache = Cache(redis, "payments", notices=NullNotices(), timeout_s=2.0)
    await cache.start()
    try:
        async with asyncio.timeout(30):
            while not cache.usable:  # noqa: ASYNC110 - the cache says it by no event
                await asyncio.sleep(0.01)
            seen = [await cache.read(entry, load), await cache.read(entry, load)]
            await cache.invalidate("user:u1")
            seen.append(await cache.read(entry, load))
    finally:
        await cache.close()

    assert [(answer.body, answer.outcome) for answer in seen] == [
        (b"1", Outcome.MISS),
        (b"1", Outcome.HIT),
        (b"2", Outcome.MISS),
    ]


def _event(number: int) -> Event:
    user = "00000000-0000-4000-8000-000000000001"
    return new_event(
        "profile.updated",
        {"userId": user, "fields": [str(number)], "updatedAt": now()},
        source="profile",
        actor_id=user,
    )
