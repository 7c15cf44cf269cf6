"""The plan of one measurement: where to send, from which addresses, when, and exactly what."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec


class PlanError(ValueError):
    """The plan cannot be carried out; lists every fault at once.

    Attributes:
        faults: one sentence each: what was seen, what was expected.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(
            "the plan cannot be carried out:\n" + "\n".join(f"  - {f}" for f in faults)
        )


class Arrivals(StrEnum):
    """How due times are spread: evenly, or as a Poisson process (seeded)."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When requests are due.

    Attributes:
        rate: requests a second, all of them together.
        seconds: length of the schedule.
        arrivals: evenly spaced, or a Poisson process.
        seed: makes the Poisson process repeatable.
    """

    rate: float
    seconds: float
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, complete, and what its answer must be.

    Attributes:
        method: GET, POST, PUT, PATCH or DELETE (HEAD has no body to prove anything by).
        path: path and query, already encoded.
        headers: name and value pairs; Host and Content-Length are added.
        body: the raw body; None sends none.
        group: under which name its samples are counted, e.g. ``payments-list``.
        expect_status: statuses that count as a success.
        expect_body: text that the body of a success holds, e.g. an id; empty asks for nothing.
        answer_bytes: about how long the answer's body is; calibration answers as much.
    """

    method: str
    path: str
    group: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    expect_status: tuple[int, ...] = (200,)
    expect_body: str = ""
    answer_bytes: int = 256


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        origin: ``https://host:port`` (or ``http://``, for a service's own port).
        schedule: when requests are due.
        requests: the distinct requests.
        order: for each place of the schedule the index of its request, used again from the
            start when it is shorter than the schedule; empty takes the requests in their order.
        ca: file of the CA that signed the origin's certificate; empty trusts the system's.
        addresses: source addresses, used in turn by the connections; empty lets the system choose.
        connections: how many are open, with TLS done, before the first request is due.
        max_connections: the pool never grows over this; beyond it a request waits, and the wait
            counts, because latency is counted from the due time.
        timeout: seconds after its due time at which a request is given up.
        watch_header: an answer header (e.g. ``x-cache``) whose value is kept with each sample.
        journey_steps: mean number of requests that make one journey (one Locust user = one
            journey a second).
    """

    origin: str
    schedule: Schedule
    requests: tuple[Request, ...]
    order: tuple[int, ...] = ()
    ca: str = ""
    addresses: tuple[str, ...] = ()
    connections: int = 20
    max_connections: int = 500
    timeout: float = 10.0
    watch_header: str = ""
    journey_steps: float = 1.0

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups' names, in the order of their first request."""
        return tuple(dict.fromkeys(request.group for request in self.requests))

    @property
    def split_origin(self) -> SplitResult:
        """The origin in its parts."""
        return urlsplit(self.origin)

    @property
    def port(self) -> int:
        """The origin's port."""
        split = self.split_origin
        return split.port or (443 if split.scheme == "https" else 80)

    @property
    def time_limit(self) -> float:
        """Seconds after which the engine's process must have ended by itself."""
        return self.schedule.seconds + self.timeout + 30.0


def check(plan: Plan) -> Plan:
    """Return the plan unchanged if it can be carried out.

    Raises:
        PlanError: with all faults.
    """
    faults = [*_faults_of_place(plan), *_faults_of_requests(plan)]
    schedule = plan.schedule
    if schedule.rate <= 0:
        faults.append(f"schedule.rate is {schedule.rate:g}, expected more than 0 requests/s")
    if schedule.seconds <= 0:
        faults.append(f"schedule.seconds is {schedule.seconds:g}, expected more than 0")
    if plan.timeout <= 0:
        faults.append(f"timeout is {plan.timeout:g} s, expected more than 0")
    if not 0 <= plan.connections <= plan.max_connections or plan.max_connections < 1:
        faults.append(
            f"connections is {plan.connections}, max_connections {plan.max_connections}: "
            "expected 0 ≤ connections ≤ max_connections and at least 1"
        )
    if faults:
        raise PlanError(faults)
    return plan


def _faults_of_place(plan: Plan) -> list[str]:
    faults = []
    split = plan.split_origin
    if split.scheme not in ("http", "https") or not split.hostname or split.path not in ("", "/"):
        faults.append(f"origin is {plan.origin!r}, expected http(s)://host[:port]")
    if plan.ca and not Path(plan.ca).is_file():
        faults.append(f"ca is {plan.ca!r}, but there is no such file")
    for address in plan.addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            faults.append(f"addresses: {address!r} is no IP address")
    return faults


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _faults_of_requests(plan: Plan) -> list[str]:
    faults = []
    if not plan.requests:
        faults.append("requests is empty: nothing would be measured")
    for number, request in enumerate(plan.requests):
        if request.method not in _METHODS:
            faults.append(f"requests[{number}].method is {request.method!r}, expected {_METHODS}")
        if not request.path.startswith("/") or any(c <= " " or c > "~" for c in request.path):
            faults.append(f"requests[{number}].path is {request.path!r}, expected an encoded path")
        if any("\r" in text or "\n" in text for pair in request.headers for text in pair):
            faults.append(f"requests[{number}].headers hold a line break")
    wrong = [index for index in plan.order if not 0 <= index < len(plan.requests)]
    if wrong:
        faults.append(f"order holds {wrong[:3]}, expected 0…{len(plan.requests) - 1}")
    return faults


def encode(plan: Plan) -> bytes:
    """The plan as it is handed to the engine's process."""
    return msgspec.msgpack.encode(plan)


def decode(raw: bytes) -> Plan:
    """Read a plan that `encode` wrote, and check it.

    Raises:
        PlanError: it is no plan, or cannot be carried out.
    """
    try:
        plan = msgspec.msgpack.decode(raw, type=Plan)
    except msgspec.DecodeError as error:
        raise PlanError([f"it is not readable: {error}"]) from error
    return check(plan)


def request_bytes(plan: Plan, request: Request) -> bytes:
    """The request as it goes over the wire (HTTP/1.1, RFC 9112)."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {plan.split_origin.netloc}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    body = request.body or b""
    # A method that has a meaning for a body says how long it is, also when it is empty.
    if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
