"""The load generator against a server that does what the test tells it."""

import asyncio
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loadtests.engine.generator import LoadGenerator
from loadtests.engine.plan import Arrivals, Plan, Request, Schedule
from loadtests.engine.samples import Failure, Measurement
from loadtests.tests.stand_in import Behaviour, Seen, StandIn, answer, say_yes, stand_in

GET = Request(method="GET", path="/thing", group="thing", expect_body="id-7")


def plan_for(server: StandIn, *requests: Request, count: int = 10, **changes: object) -> Plan:
    """A plan of `count` requests within about a third of a second."""
    values: dict[str, object] = {
        "origin": server.origin,
        "ca": server.ca,
        "schedule": Schedule(rate=count / 0.3, seconds=0.3, arrivals=Arrivals.CONSTANT),
        "requests": requests or (Request(method="GET", path="/", group="any"),),
        "connections": 2,
        "timeout": 60.0,  # a shared machine may stand still for seconds
        **changes,
    }
    return Plan(**values)  # type: ignore[arg-type]  # the values are the test's own


async def carry_out(plan: Plan) -> Measurement:
    """Run the plan in this event loop."""
    return await LoadGenerator(plan).run()


def failures(measurement: Measurement) -> set[Failure]:
    """The kinds of failure that occurred (or NONE)."""
    return {Failure(int(kind)) for kind in measurement.failure}


def always(raw: bytes, *, close: bool = False) -> Behaviour:
    """Write these bytes to every request."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            await writer.drain()
            writer.close()

    return behave


async def test_requests_are_sent_when_due() -> None:
    """Every request is in the record with due ≤ sent ≤ first byte ≤ done, and arrived once."""
    with stand_in() as server:
        measurement = await carry_out(plan_for(server, count=30))
    assert len(measurement) == 30
    assert len(server.seen) == 30
    assert measurement.ok.all()
    assert np.allclose(np.diff(measurement.due), 0.01)
    assert (measurement.due <= measurement.sent).all()
    assert (measurement.sent <= measurement.first_byte).all()
    assert (measurement.first_byte <= measurement.done).all()
    assert measurement.delivered() == 1.0
    assert measurement.summary.rate == pytest.approx(100)


async def test_the_order_decides_which_request_comes_when() -> None:
    """The plan's order is followed and begun again."""
    a, b = (Request(method="GET", path=f"/{name}", group=name) for name in "ab")
    with stand_in() as server:
        plan = plan_for(server, a, b, count=6, order=(0, 1, 1), connections=1, max_connections=1)
        measurement = await carry_out(plan)
    assert [seen.path for seen in server.seen] == ["/a", "/b", "/b"] * 2
    assert measurement.of_group("b").tolist() == [False, True, True] * 2


async def test_connections_are_kept_alive() -> None:
    """Ten requests use the two connections that were opened before, and none is closed."""
    with stand_in() as server:
        await carry_out(plan_for(server, max_connections=2))
    assert server.connections == 2


async def test_latency_counts_from_the_due_time() -> None:
    """A server that takes 0.2 s on the only connection delays the later ones more and more."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(answer())

    with stand_in(slow) as server:
        plan = plan_for(server, count=6, connections=1, max_connections=1)
        measurement = await carry_out(plan)
    assert measurement.ok.all()
    assert (measurement.sent[1:] >= measurement.done[:-1]).all()  # one after the other
    latency, naive = measurement.latency(), measurement.naive_latency()
    assert (naive >= 0.19).all()
    # The last was due at 0.25 s and is the sixth to take 0.2 s.
    assert latency[-1] >= 6 * 0.19 - 0.25
    assert latency[-1] - naive[-1] >= 5 * 0.19 - 0.25
    assert (np.diff(latency) > 0.1).all()


async def test_the_pool_grows_so_that_nobody_waits() -> None:
    """The same server with a free pool is asked several things at once."""

    at_once = most_at_once = 0

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most_at_once
        at_once += 1
        most_at_once = max(at_once, most_at_once)
        await asyncio.sleep(0.2)
        at_once -= 1
        writer.write(answer())

    with stand_in(slow) as server:
        measurement = await carry_out(plan_for(server, count=12, connections=1))
    assert measurement.ok.all()
    assert most_at_once >= 4  # one at a time would need 2.4 s
    assert measurement.summary.generator.connections_at_once == server.connections


async def test_the_schedule_does_not_wait_for_a_silent_server() -> None:
    """All requests are sent though none is answered; all time out, none is delivered."""

    async def silence(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with stand_in(silence) as server:
        measurement = await carry_out(plan_for(server, timeout=5.0))
    assert failures(measurement) == {Failure.TIMEOUT}
    assert not np.isnan(measurement.sent).any()
    assert measurement.delivered() == 0.0
    assert measurement.errors() == 10
    assert len(measurement.latency()) == 0


async def test_what_never_got_a_connection_was_not_sent() -> None:
    """With one connection and a silent server, one request times out and the rest is not sent."""

    async def silence(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with stand_in(silence) as server:
        # All due within 10 ms, so that they time out together; the one whose turn comes in
        # between may still be sent.
        schedule = Schedule(rate=1000, seconds=0.01, arrivals=Arrivals.CONSTANT)
        plan = plan_for(server, timeout=1.0, connections=1, max_connections=1, schedule=schedule)
        measurement = await carry_out(plan)
    assert len(measurement) == 10
    assert int(np.isnan(measurement.sent).sum()) >= 8
    assert measurement.summary.failures.get("not_sent", 0) >= 8


@pytest.mark.parametrize(
    ("raw", "close", "expected", "status"),
    [
        pytest.param(answer(b'{"id-7"}'), False, Failure.NONE, 200, id="good"),
        pytest.param(answer(b'{"id-8"}'), False, Failure.BODY, 200, id="another id"),
        pytest.param(answer(b""), False, Failure.BODY, 200, id="empty body"),
        pytest.param(answer(b"id-7", status=500), False, Failure.STATUS, 500, id="500"),
        pytest.param(answer(b"id-7", status=429), False, Failure.STATUS, 429, id="429"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nid-\r\n1\r\n7\r\n0\r\n\r\n",
            False,
            Failure.NONE,
            200,
            id="chunked, expected text across chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nid-7\r\n",
            True,
            Failure.BROKEN,
            0,
            id="chunked without its end",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nid-7",
            True,
            Failure.BROKEN,
            0,
            id="shorter than its length",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nid-7", True, Failure.NONE, 200, id="ends with close"),
        pytest.param(
            answer(b"id-7", headers="Connection: close\r\n"), True, Failure.NONE, 200, id="closes"
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"id-7"), False, Failure.NONE, 200, id="100"
        ),
        pytest.param(b"", True, Failure.BROKEN, 0, id="closes unanswered"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", False, Failure.PROTOCOL, 0, id="not HTTP"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            True,
            Failure.PROTOCOL,
            0,
            id="switches",
        ),
    ],
)
async def test_what_an_answer_counts_as(
    raw: bytes, close: bool, expected: Failure, status: int
) -> None:
    """Only a complete answer with the expected status and text is a success."""
    with stand_in(always(raw, close=close)) as server:
        measurement = await carry_out(plan_for(server, GET, count=5))
    assert failures(measurement) == {expected}
    assert measurement.ok.all() == (expected is Failure.NONE)
    assert set(measurement.status.tolist()) == {status}
    answered = not np.isnan(measurement.done).any()
    assert answered == (expected in (Failure.NONE, Failure.STATUS, Failure.BODY))


async def test_a_body_goes_out_and_its_size_comes_back() -> None:
    """The server sees headers and body; the sample knows how long the answer was."""
    post = Request(
        method="POST",
        path="/p",
        group="p",
        headers=(("Content-Type", "application/json"),),
        body=b'{"amount":"1.00"}',
        expect_status=(201,),
    )
    with stand_in(always(answer(b"x" * 100_000, status=201))) as server:
        measurement = await carry_out(plan_for(server, post, count=3))
    assert measurement.ok.all()
    assert measurement.size.tolist() == [100_000] * 3
    assert server.seen[0].body == b'{"amount":"1.00"}'
    assert server.seen[0].headers["content-type"] == "application/json"


async def test_a_dead_host_fails_every_request_at_once() -> None:
    """Nobody listens: every request says that it could not connect, and the run ends in time."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = StandIn(say_yes)
        server.origin = f"http://localhost:{port}"
        began = time.monotonic()
        measurement = await carry_out(plan_for(server))
    assert failures(measurement) == {Failure.CONNECT}
    assert measurement.delivered() == 0.0
    assert time.monotonic() - began < 30  # of a time-out of 60


async def test_an_unknown_host_fails_every_request() -> None:
    """A name without an address is no crash."""
    server = StandIn(say_yes)
    server.origin = "http://does-not-exist.invalid:80"
    measurement = await carry_out(plan_for(server))
    assert failures(measurement) == {Failure.CONNECT}


async def test_a_connection_that_died_while_idle_is_replaced_for_a_get() -> None:
    """A server that closes after each answer without saying so costs a GET nothing but time."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) % 2 == 0:
            writer.close()  # instead of an answer, on a connection that has answered before
        else:
            writer.write(answer(b"id-7"))

    with stand_in(behave) as server:
        plan = plan_for(server, GET, count=4, connections=1, max_connections=1)
        measurement = await carry_out(plan)
    assert measurement.ok.all()
    assert measurement.summary.generator.resent >= 2


async def test_a_post_is_never_sent_twice() -> None:
    """The same server breaks every second POST, and each is seen once."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) % 2 == 0:
            writer.close()
        else:
            writer.write(answer())

    post = Request(method="POST", path="/p", group="p", body=b"{}")
    with stand_in(behave) as server:
        plan = plan_for(server, post, count=4, connections=1, max_connections=1)
        measurement = await carry_out(plan)
    assert len(server.seen) == 4
    assert measurement.summary.failures == {"broken": 2}
    assert measurement.summary.generator.resent == 0


async def test_tls_is_verified(tmp_path: Path) -> None:
    """With the right CA all is well; with another one every request fails to connect."""
    others = tmp_path / "others"
    others.mkdir()
    with stand_in(tls_folder=tmp_path) as server, stand_in(tls_folder=others) as other:
        good = await carry_out(plan_for(server))
        bad = await carry_out(plan_for(server, ca=other.ca))
        assert len(server.seen) == 10
    assert good.ok.all()
    assert failures(bad) == {Failure.CONNECT}


async def test_source_addresses_are_used_in_turn() -> None:
    """The server sees the plan's addresses and no other."""
    addresses = ("127.0.2.1", "127.0.2.2")
    with stand_in() as server:
        await carry_out(plan_for(server, addresses=addresses))
    assert {seen.peer for seen in server.seen} == set(addresses)


async def test_the_watched_header_is_kept() -> None:
    """X-Cache of each answer is counted, also when it is absent."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        values = ["x-cache: HIT\r\n", "X-Cache:MISS\r\n", ""]
        writer.write(answer(headers=values[len(server.seen) % 3]))

    with stand_in(behave) as server:
        plan = plan_for(server, count=9, watch_header="X-Cache", connections=1, max_connections=1)
        measurement = await carry_out(plan)
    assert measurement.watched_counts() == {"MISS": 3, "HIT": 3, "": 3}


async def test_a_head_in_pieces_is_one_head() -> None:
    """A header that arrives byte by byte is still found."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        raw = answer(headers="X-Cache: HIT\r\n")
        for at in range(0, len(raw), 7):
            writer.write(raw[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0.001)

    with stand_in(behave) as server:
        plan = plan_for(server, count=3, watch_header="X-Cache")
        measurement = await carry_out(plan)
    assert measurement.watched_counts() == {"HIT": 3}


async def test_a_fault_of_the_generator_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception inside the engine is raised, never counted as the target's failure."""
    monkeypatch.setattr(LoadGenerator, "first_byte", lambda self, sample: 1 / 0)
    with stand_in() as server, pytest.raises(Exception, match="division"):
        await carry_out(plan_for(server))


async def test_a_server_that_hangs_up_at_once_is_not_hammered() -> None:
    """It is asked for a connection no more often than requests and the pool want one."""
    accepted = 0

    def serve(listener: socket.socket) -> None:
        nonlocal accepted
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted += 1
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        server = StandIn(say_yes)
        server.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        measurement = await carry_out(plan_for(server))
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5.0)
    assert failures(measurement) <= {Failure.BROKEN, Failure.CONNECT}
    assert accepted <= 2 + 2 * 10
