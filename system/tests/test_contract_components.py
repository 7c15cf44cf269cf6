"""0.2 and 0.3 on the running platform: servers, ports, addresses, and what the environment says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis

from system.conftest import RunningStack
from system.platform.config.encryption import encrypt
from system.stack.native import Override
from system.tests.desks import PROCESSES, SERVICES, away, readiness
from system.tests.doors import Caller, newcomer, refusal

pytestmark = pytest.mark.platform

_NOWHERE = "127.0.0.1:1"
_LISTENING = "0A"


@pytest.fixture
def admin(well: RunningStack) -> Iterator[Caller]:
    made = Caller(well, well.account("admin"))
    yield made
    made.close()


def test_r0_6_the_servers_are_recent_and_keep_what_they_have(well: RunningStack) -> None:
    """PostgreSQL 15, a cluster each; RabbitMQ 3.10; Redis 7 with its append-only file."""
    clusters = set()
    for service in SERVICES:
        with psycopg.connect(well.database(service)) as db:
            row = db.execute(
                "SELECT current_setting('server_version_num')::int, "
                "current_setting('data_directory'), current_database()"
            ).fetchone()
        assert row is not None
        assert row[0] >= 150_000
        assert row[2] == f"{service}_db"
        clusters.add(row[1])
    assert len(clusters) == 4
    access = well.target["access"]
    with redis.Redis.from_url(access["redis"]["url"], decode_responses=True) as cache:
        assert int(str(cache.info("server")["redis_version"]).split(".")[0]) >= 7
        assert cache.info("persistence")["aof_enabled"] == 1
    amqp = access["amqp"]
    told = httpx.get(
        f"{amqp['management']}/api/overview", auth=(amqp["user"], amqp["password"]), timeout=10
    ).json()
    version = [int(part) for part in told["rabbitmq_version"].split(".")[:2]]
    assert version >= [3, 10]


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _descendants(int(child))


def _sockets(pid: int) -> Iterator[str]:
    """Inodes of the sockets that a process has."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield target[8:-1]


def _listeners() -> dict[str, tuple[str, int]]:
    """Address and port of each listening TCP socket of this machine, by inode."""
    found = {}
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(file).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] != _LISTENING:
                continue
            address, port = fields[1].split(":")
            words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
            packed = struct.pack(f"={len(words)}I", *words)
            found[fields[9]] = (str(ipaddress.ip_address(packed)), int(port, 16))
    return found


def test_r0_7_only_the_edge_is_public(well: RunningStack) -> None:
    """Whatever else listens, in any process of the platform, does so on loopback."""
    listeners = _listeners()
    seen: dict[str, set[tuple[str, int]]] = {}
    for state in well.states():
        if state.pid:
            inodes = {inode for pid in _descendants(state.pid) for inode in _sockets(pid)}
            seen[state.part] = {listeners[inode] for inode in inodes & listeners.keys()}
    told = {name: int(url.rpartition(":")[2]) for name, url in well.services.items()}
    for name, port in told.items():
        assert port in {number for _, number in seen[name]}, "it was not looked at"
    assert {"edge", "rabbitmq", "redis"} <= {part for part, found in seen.items() if found}
    assert len([part for part in seen if part.startswith("postgres")]) >= 4
    for part, found in seen.items():
        public = {
            (address, port)
            for address, port in found
            if not ipaddress.ip_address(address).is_loopback
        }
        assert part == "edge" or not public, f"{part}: {public}"


_READY = b'{"success":true,"data":{"service":"stand-in","status":"ready","checks":{}}}'


class _StandIn:
    """Answers everything as a process does that is ready; remembers who asked for what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N805 - http.server names it; self is taken
                self.seen.append((handler.client_address[0], handler.path))
                body = _READY
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, format: str, *_: object) -> None:  # noqa: N805
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stand_in() -> Iterator[_StandIn]:
    made = _StandIn()
    yield made
    made.close()


def test_r0_9_r0_16_the_gateway_asks_where_it_is_told(
    well: RunningStack, admin: Caller, stand_in: _StandIn
) -> None:
    """Each service at the address of its variable, from the address that services trust."""
    variables = [f"{service.upper()}_SERVICE_URL" for service in SERVICES]
    well.restart_with("gateway", dict.fromkeys(variables, stand_in.url))
    paths = {
        "/api/auth/sessions": "/auth/sessions",
        "/api/payments": "/payments",
        "/api/admin/users": "/api/admin/users",
        "/api/profile": "/api/profile",
    }
    try:
        for path in paths:
            answer = admin.ask("gateway", "GET", path)
            assert answer.json()["data"]["service"] == "stand-in"
    finally:
        well.restart("gateway")
    asked = [pair for pair in stand_in.seen if pair[1] in paths.values()]
    assert asked == [("127.0.0.251", path) for path in paths.values()]


def test_r0_16_the_edge_asks_from_the_address_that_is_trusted(
    well: RunningStack, admin: Caller, stand_in: _StandIn
) -> None:
    """A gateway in place of the usual one sees who connects."""
    usual = well.services["gateway"].removeprefix("http://")

    def elsewhere(text: str) -> str:
        assert usual in text
        return text.replace(usual, stand_in.url.removeprefix("http://"))

    well.restart("edge", Override(render_transform=elsewhere))
    try:
        assert admin.ask("edge", "GET", "/api/auth/me").json()["data"]["service"] == "stand-in"
    finally:
        well.restart("edge")
    assert ("127.0.0.250", "/api/auth/me") in stand_in.seen


def test_r0_9_nothing_is_where_it_usually_is(well: RunningStack) -> None:
    """On ports that nobody could guess each process finds all it needs, so it was told where."""
    usual = {80, 443, 6379, *range(3000, 3005), *range(5432, 5437), 5672, 15672}
    access = well.target["access"]
    urls = [well.origin, access["amqp"]["url"], access["amqp"]["management"]]
    urls += [*well.services.values(), access["redis"]["url"]]
    urls += [access["db"][service]["url"] for service in SERVICES]
    assert {urlsplit(url).port for url in urls} & {*usual, None} == set()
    for process in PROCESSES:
        assert set(readiness(well, process)[1].values()) == {"up"}


def test_r0_9_services_find_each_other_by_their_variables(
    well: RunningStack, admin: Caller
) -> None:
    """The health that admin-service tells of others, and payments-service's question to auth."""
    others = ("API_GATEWAY", "PAYMENTS_SERVICE", "PROFILE_SERVICE")
    well.restart_with("admin", {f"{name}_URL": f"http://{_NOWHERE}" for name in others})
    try:
        ill = admin.ask("service", "GET", "/api/admin/health")
    finally:
        well.restart("admin")
    assert refusal(ill) == (503, "HEALTH_CHECK_FAILED")
    assert ill.json()["error"]["details"]["services"] == {
        **dict.fromkeys(
            ("database", "redis", "rabbitmq", "authService", "adminService"), "healthy"
        ),
        **dict.fromkeys(("gateway", "paymentsService", "profileService"), "unhealthy"),
    }
    body = {"type": "instant", "amount": "1", "description": "x"}
    well.restart_with("payments", {"AUTH_SERVICE_URL": f"http://{_NOWHERE}"})
    try:
        paid = admin.ask(
            "gateway", "POST", "/api/payments", json={**body, "recipientId": str(uuid.uuid4())}
        )
    finally:
        well.restart("payments")
    assert refusal(paid) == (503, "SERVICE_UNAVAILABLE")


def test_r0_15_an_encrypted_value_is_in_force(well: RunningStack, admin: Caller) -> None:
    """The secret that signs is the one inside; without the right key the process ends."""
    key, secret = os.urandom(32), f"sealed-{uuid.uuid4()}"
    sealed = encrypt(secret, key)
    assert sealed.startswith("ENC[local:")
    assert secret not in sealed
    body = json.dumps({"paymentId": str(uuid.uuid4()), "status": "failed"}).encode()

    def call(signing: str) -> tuple[int, str]:
        now = str(int(time.time()))
        signed = hmac.new(signing.encode(), now.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Webhook-Timestamp": now,
            "X-Webhook-Signature": f"sha256={signed}",
        }
        path = "/api/webhooks/payments"
        return refusal(admin.ask("gateway", "POST", path, content=body, headers=headers))

    environment = {
        "PSP_WEBHOOK_SECRET": sealed,
        "SECRETS_ENCRYPTION_KEY": base64.b64encode(key).decode(),
    }
    well.restart_with("payments", environment)
    try:
        assert call(secret) == (404, "PAYMENT_NOT_FOUND")
        usual = well.target["access"]["webhooks"]["secret"]
        for wrong in (usual, sealed, sealed[10:-1]):
            assert call(wrong) == (401, "WEBHOOK_SIGNATURE_INVALID")
    finally:
        well.restart("payments")
    assert call(usual) == (404, "PAYMENT_NOT_FOUND")


def test_r0_16_the_reference_stack(well: RunningStack, admin: Caller) -> None:
    """Production mode with what trials need; every process is told so."""
    wanted = {"NODE_ENV": "production", "ALLOW_DEMO_CREDENTIALS": "true"}
    more = {
        "gateway": {
            "API_DOCS_ENABLED": "true",
            "UPSTREAM_TIMEOUT_MS": "3000",
            "PUBLIC_ORIGIN": well.origin,
            "RATE_LIMIT_EXEMPT": "127.0.0.2,127.0.2.0/24",
            "TRUSTED_PROXIES": "127.0.0.250",
        },
        **{
            service: {"DIAGNOSTICS_ENABLED": "true", "TRUSTED_PROXIES": "127.0.0.251"}
            for service in SERVICES
        },
    }
    pids = {state.part: state.pid for state in well.states()}
    for part, values in more.items():
        given = Path(f"/proc/{pids[part]}/environ").read_text().split("\0")
        told = dict(entry.split("=", 1) for entry in given if "=" in entry)
        expected = {**wanted, **values}
        assert {name: told.get(name) for name in expected} == expected, part
    assert admin.ask("edge", "GET", "/api-docs.json").status_code == 200
    plain = httpx.get(f"{well.target['http']['plain']}/x?y=z", timeout=10)
    assert (plain.status_code, plain.headers["Location"]) == (301, f"{well.origin}/x?y=z")
    began = time.monotonic()
    with away(well, "profile", "pause"):
        assert admin.ask("gateway", "GET", "/api/profile").status_code == 504
        assert 3.0 <= time.monotonic() - began < 10.0


@pytest.mark.parametrize("door", ["gateway", "service"])
def test_r0_16_no_other_local_client_is_trusted(well: RunningStack, door: str) -> None:
    """What a client says of its address is believed by nobody, however local it is."""
    somebody = newcomer(well)
    lies = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "Forwarded"), "203.0.113.9")
    body = {"email": somebody.email, "password": "Newcomer-Pass-123!"}
    answer = somebody.ask(door, "POST", "/api/auth/login", json=body, headers=lies)
    assert answer.status_code == 200
    shown = {entry["ipAddress"] for entry in somebody.good("GET", "/api/auth/sessions")}
    somebody.close()
    assert shown == {well.exempt}


def test_r0_16_which_addresses_count(well: RunningStack) -> None:
    """127.0.0.2 and 127.0.2.0/24 are free of limits at edge and gateway; 127.0.3.0/24 is not."""
    for address, counted in (
        ("127.0.0.2", False),
        ("127.0.2.1", False),
        ("127.0.2.254", False),
        ("127.0.3.216", True),
    ):
        transport = httpx.HTTPTransport(verify=well.trust, local_address=address)
        with httpx.Client(transport=transport, timeout=10) as somebody:
            answer = somebody.get(f"{well.services['gateway']}/api/auth/me")
            assert ("RateLimit-Limit" in answer.headers) is counted, address
            many = [somebody.get(f"{well.origin}/api/auth/me").status_code for _ in range(40)]
        assert (429 in many) is counted, address
