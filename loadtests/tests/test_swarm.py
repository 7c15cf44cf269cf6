"""The swarm against a small WebSocket server, in its own process over TLS and not."""

import asyncio
import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from loadtests.engine.plan import PlanError
from loadtests.engine.throwaway_certificate import write_certificate
from loadtests.swarm.__main__ import main
from loadtests.swarm.client import Payload, SwarmListener
from loadtests.swarm.control import Swarm, SwarmFailed
from loadtests.swarm.hive import Expectation
from loadtests.swarm.plan import SwarmClient, SwarmPlan, check


class Gateway:
    """A gateway as far as a swarm needs one: welcomes, refuses, delivers what a test says."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.sockets: dict[web.WebSocketResponse, str] = {}
        self.peers: set[str] = set()
        self.url = ""
        self.ca = ""
        self.pongs = 0
        self.close_codes: list[int | None] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One socket; the token is the user's name, and some names are refused."""
        token = request.headers.get("Sec-WebSocket-Protocol", "").partition(", ")[2]
        if token == "refused":
            body = {"success": False, "error": {"code": "TOKEN_REVOKED", "message": "no"}}
            return web.json_response(body, status=401)
        socket = web.WebSocketResponse(protocols=("bearer",), compress=False, autoping=False)
        await socket.prepare(request)
        self.peers.add(request.remote or "")
        self.sockets[socket] = token
        if token != "unwelcome":
            await socket.send_json(
                {"type": "connected", "payload": {"userId": token, "rooms": [f"user:{token}"]}}
            )
        async for message in socket:
            if message.type is WSMsgType.PING and token != "silent":
                await socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self.pongs += 1
        self.close_codes.append(socket.close_code)
        del self.sockets[socket]
        return socket

    def event(self, event_id: str, users: set[str] | None = None, times: int = 1) -> None:
        """Deliver an event to these users' sockets, or to all."""
        payload = {"eventType": "payment.created", "eventId": event_id, "correlationId": "c-1"}
        message = {"type": "event", "payload": payload, "timestamp": "2026-01-17T10:00:00.000Z"}

        async def deliver() -> None:
            for socket, user in list(self.sockets.items()):
                if users is None or user in users:
                    for _ in range(times):
                        await socket.send_json(message)

        self.do(deliver())

    def each(self, act: Callable[[web.WebSocketResponse], Coroutine[Any, Any, Any]]) -> None:
        """Do something with every socket."""

        async def all_of_them() -> None:
            for socket in list(self.sockets):
                await act(socket)

        self.do(all_of_them())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the server's loop and wait."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)


@contextlib.contextmanager
def gateway(tls_folder: Path | None = None) -> Iterator[Gateway]:
    """A running gateway."""
    server = Gateway()
    context = None
    if tls_folder is not None:
        certificate, key = write_certificate(tls_folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.ca = str(certificate)
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/ws", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        server.url = f"{'wss' if context else 'ws'}://localhost:{port}/ws"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=server.loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        server.loop.close()


def swarm_plan(server: Gateway, *users: str, **changes: Any) -> SwarmPlan:
    """A plan with one socket per name."""
    clients = tuple(SwarmClient(user=user, token=user) for user in users)
    return SwarmPlan(
        url=server.url, ca=server.ca, clients=clients, **{"connect_timeout": 10.0, **changes}
    )


def test_a_swarm_receives_what_is_meant_for_it(tmp_path: Path) -> None:
    """60 sockets of 6 users over TLS: broadcasts reach all, targeted events only their users."""
    users = [f"user-{number % 6}" for number in range(60)]
    addresses = ("127.0.2.1", "127.0.2.2")
    with (
        gateway(tls_folder=tmp_path) as server,
        Swarm(swarm_plan(server, *users, addresses=addresses), tmp_path, "swarm") as swarm,
    ):
        status = swarm.connect()
        assert status == {"clients": 60, "open": 60, "welcomed": 60, "events": 0, "failed": {}}
        assert server.peers == set(addresses)
        before = time.monotonic()
        server.event("for-all")
        server.event("for-two", {"user-1"})
        wanted = [Expectation(key="for-all"), Expectation(key="for-two", users=("user-1",))]
        assert swarm.expect(wanted, within=10) == {"expected": 70, "received": 70}
        assert swarm.ping(within=10.0) == {"asked": 60, "answered": 60}
        evidence = swarm.finish()
    assert json.loads((tmp_path / "swarm.json").read_text()) == evidence
    assert [event["event_id"] for event in evidence["events"]] == ["for-all", "for-two"]
    assert evidence["events"][0]["correlation_id"] == "c-1"
    for client in evidence["clients"]:
        assert client["status"] == 101
        assert client["protocol"] == "bearer"
        assert client["rooms"] == [f"user:{client['user']}"]
        numbers = [number for number, _ in client["events"]]
        assert numbers == ([0, 1] if client["user"] == "user-1" else [0])
        # The clock is the system's, so this process may compare its own times with them.
        assert all(before <= at <= time.monotonic() for _, at in client["events"])
        assert len(client["pongs"]) == 1
        assert client["closed_by_us"]
        assert client["close_code"] == 1000
    assert evidence["generator"]["cpu_share"] >= 0


def test_duplicates_and_strangers_are_written_down(tmp_path: Path) -> None:
    """An event that comes twice is there twice; other messages are counted by type."""
    with gateway() as server, Swarm(swarm_plan(server, "a"), tmp_path, "s") as swarm:
        swarm.connect()
        server.event("twice", times=2)
        server.each(lambda socket: socket.send_str("not json"))
        server.each(lambda socket: socket.send_bytes(b"\x00"))
        server.each(lambda socket: socket.send_json({"type": "token_expiring"}))
        server.each(
            lambda socket: socket.send_json({"type": "error", "payload": {"code": "INVALID_ROOM"}})
        )
        server.event("last")
        assert swarm.expect([Expectation(key="last")], 10) == {"expected": 1, "received": 1}
        evidence = swarm.finish()
    (client,) = evidence["clients"]
    assert [number for number, _ in client["events"]] == [0, 0, 1]
    assert client["other"] == {
        "not-json": 1,
        "binary": 1,
        "token_expiring": 1,
        "error INVALID_ROOM": 1,
    }


def test_refusals_are_evidence(tmp_path: Path) -> None:
    """A refused handshake keeps its status and code, and its missing deliveries count."""
    with gateway() as server, Swarm(swarm_plan(server, "a", "refused"), tmp_path, "s") as swarm:
        status = swarm.connect()
        assert status["open"] == 1
        assert status["failed"] == {"401 TOKEN_REVOKED": 1}
        server.event("e")
        assert swarm.expect([Expectation(key="e")], 0.5) == {"expected": 2, "received": 1}
        evidence = swarm.finish()
    refused = evidence["clients"][1]
    assert (refused["status"], refused["code"]) == (401, "TOKEN_REVOKED")
    assert refused["opened"] is None


def test_a_dead_gateway_opens_nothing(tmp_path: Path) -> None:
    """Every socket says why, and the swarm answers all the same."""
    plan = SwarmPlan(url="ws://127.0.0.1:1/ws", clients=(SwarmClient(user="a", token="a"),) * 3)
    with Swarm(plan, tmp_path, "s") as swarm:
        status = swarm.connect()
        evidence = swarm.finish()
    assert status["open"] == 0
    assert sum(status["failed"].values()) == 3
    assert all("ConnectionRefused" in client["error"] for client in evidence["clients"])


def test_an_unknown_host_opens_nothing(tmp_path: Path) -> None:
    """The same for a name without an address."""
    plan = SwarmPlan(
        url="ws://does-not-exist.invalid/ws", clients=(SwarmClient(user="a", token="a"),)
    )
    with Swarm(plan, tmp_path, "s") as swarm:
        assert swarm.connect()["open"] == 0


def test_a_wrong_certificate_opens_nothing(tmp_path: Path) -> None:
    """TLS is verified."""
    others = tmp_path / "others"
    others.mkdir()
    other, _ = write_certificate(others)
    with gateway(tls_folder=tmp_path) as server:
        plan = swarm_plan(server, "a")
        with Swarm(
            SwarmPlan(url=plan.url, clients=plan.clients, ca=str(other)), tmp_path, "s"
        ) as swarm:
            status = swarm.connect()
    assert status["open"] == 0
    assert "certificate" in str(status["failed"]).lower()


def test_who_does_not_answer_a_ping_is_seen(tmp_path: Path) -> None:
    """Of two sockets one stays silent."""
    with gateway() as server, Swarm(swarm_plan(server, "a", "silent"), tmp_path, "s") as swarm:
        swarm.connect()
        assert swarm.ping(within=1.0) == {"asked": 2, "answered": 1}


def test_pings_of_the_server_are_answered(tmp_path: Path) -> None:
    """A swarm is a well-behaved client (R4.31)."""
    with gateway() as server, Swarm(swarm_plan(server, "a"), tmp_path, "s") as swarm:
        swarm.connect()
        server.each(lambda socket: socket.ping(b"x"))
        server.event("after")
        swarm.expect([Expectation(key="after")], 10)
        evidence = swarm.finish()
    assert server.pongs == 1
    assert evidence["clients"][0]["pings"] == 1


def test_closings_keep_code_and_reason(tmp_path: Path) -> None:
    """A server's 4401 is in the evidence, and the swarm did not do it."""
    with gateway() as server, Swarm(swarm_plan(server, "a"), tmp_path, "s") as swarm:
        swarm.connect()
        server.each(lambda socket: socket.close(code=4401, message=b"session revoked"))
        deadline = time.monotonic() + 10
        while swarm.status()["open"] and time.monotonic() < deadline:
            time.sleep(0.05)
        evidence = swarm.finish()
    (client,) = evidence["clients"]
    assert (client["close_code"], client["close_reason"]) == (4401, "session revoked")
    assert not client["closed_by_us"]


def test_a_missing_welcome_is_seen(tmp_path: Path) -> None:
    """Connected without the first message is not welcomed."""
    with gateway() as server:
        plan = swarm_plan(server, "a", "unwelcome", connect_timeout=1.5)
        with Swarm(plan, tmp_path, "s") as swarm:
            status = swarm.connect()
    assert (status["open"], status["welcomed"]) == (2, 1)


def test_no_swarm_outlives_its_block(tmp_path: Path) -> None:
    """An exception in the block kills the process and removes the plan's file with its tokens."""
    plan = SwarmPlan(url="ws://h/ws", clients=(SwarmClient(user="a", token="a"),))
    swarm = Swarm(plan, tmp_path, "s")

    def interrupted() -> None:
        with swarm:
            assert swarm._plan_file.stat().st_mode & 0o077 == 0
            raise RuntimeError("a test's own")

    with pytest.raises(RuntimeError, match="a test's own"):
        interrupted()
    assert not swarm._plan_file.exists()
    assert swarm._process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(swarm._process.pid, 0)


def test_a_swarm_that_died_says_so(tmp_path: Path) -> None:
    """Its exit code and last words are in the error."""
    plan = SwarmPlan(url="ws://h/ws", clients=(SwarmClient(user="a", token="a"),))
    with Swarm(plan, tmp_path, "s") as swarm:
        assert swarm._process is not None
        swarm._process.kill()
        swarm._process.wait(20)
        with pytest.raises(SwarmFailed, match="code -9 during 'status'"):
            swarm.status()


def test_an_unknown_command_is_an_error(tmp_path: Path) -> None:
    """It is not answered as if it were done."""
    plan = SwarmPlan(url="ws://h/ws", clients=(SwarmClient(user="a", token="a"),))
    with Swarm(plan, tmp_path, "s") as swarm, pytest.raises(SwarmFailed, match="'dance'"):
        swarm._ask({"do": "dance"}, 1.0)


def test_all_faults_of_a_plan_are_said_at_once() -> None:
    """Four of them."""
    with pytest.raises(PlanError) as error:
        check(SwarmPlan(url="https://x", clients=(), ca="/no/such.pem", connect_rate=0))
    assert len(error.value.faults) == 4


def test_the_process_refuses_what_is_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the reason."""
    (tmp_path / "plan").write_bytes(b"garbage")
    assert main([str(tmp_path / "plan"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err


def test_a_message_in_fragments_is_one_message() -> None:
    """Continuation frames are put together before they are read."""

    class Frame:
        def __init__(self, kind: Any, payload: bytes, fin: bool) -> None:
            self.msg_type, self.payload, self.fin = kind, payload, fin

        def get_payload_as_bytes(self) -> bytes:
            return self.payload

    from picows import WSMsgType as Kind

    from loadtests.swarm.client import ClientRecord

    record = ClientRecord(user="a")
    numbers: list[Payload] = []

    def number_of(message: Any, payload: Payload) -> int:
        numbers.append(payload)
        return 0

    listener = SwarmListener(record, number_of, lambda: None)
    whole = b'{"type":"event","payload":{"eventId":"e"}}'
    listener.on_ws_frame(None, Frame(Kind.TEXT, whole[:9], fin=False))  # type: ignore[arg-type]
    assert not record.events
    listener.on_ws_frame(None, Frame(Kind.CONTINUATION, whole[9:], fin=True))  # type: ignore[arg-type]
    assert [payload.eventId for payload in numbers] == ["e"]
