"""The plan: its faults, its way to the engine, its requests on the wire."""

import pytest

from loadtests.engine.plan import (
    Plan,
    PlanError,
    Request,
    Schedule,
    check,
    decode,
    encode,
    request_bytes,
)

GOOD = Plan(
    origin="https://localhost:8443",
    schedule=Schedule(rate=10, seconds=1),
    requests=(
        Request(method="GET", path="/a?b=1", group="a", headers=(("Authorization", "Bearer x"),)),
        Request(method="POST", path="/b", group="b", body=b'{"k":1}', expect_status=(201,)),
        Request(method="POST", path="/c", group="a"),
    ),
)


def test_a_plan_survives_its_way_to_the_engine() -> None:
    """What is encoded is decoded equal."""
    assert decode(encode(GOOD)) == GOOD


def test_groups_come_in_order_of_first_use() -> None:
    """Each group once."""
    assert GOOD.groups == ("a", "b")


def test_all_faults_are_said_at_once() -> None:
    """A plan with ten faults names ten."""
    bad = Plan(
        origin="ftp://x/y",
        schedule=Schedule(rate=0, seconds=-1),
        requests=(
            Request(method="HEAD", path="/a", group="a"),
            Request(method="GET", path="no slash", group="a"),
            Request(method="GET", path="/", group="a", headers=(("X", "a\r\nY: b"),)),
        ),
        order=(0, 3),
        ca="/does/not/exist.pem",
        addresses=("localhost",),
        connections=9,
        max_connections=3,
        timeout=0,
    )
    with pytest.raises(PlanError) as error:
        check(bad)
    assert len(error.value.faults) == 11


def test_an_empty_plan_is_refused() -> None:
    """Nothing to send would measure nothing."""
    with pytest.raises(PlanError, match="nothing would be measured"):
        check(Plan(origin="http://x", schedule=Schedule(rate=1, seconds=1), requests=()))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"not a plan", b'{"origin":1}'])
def test_garbage_is_no_plan(raw: bytes) -> None:
    """It says so instead of failing somewhere later."""
    with pytest.raises(PlanError):
        decode(raw)


def test_requests_on_the_wire() -> None:
    """Host and length are added; a POST without a body says length 0; a GET says nothing."""
    get, post, empty = (request_bytes(GOOD, request) for request in GOOD.requests)
    assert get == (
        b"GET /a?b=1 HTTP/1.1\r\nHost: localhost:8443\r\nAuthorization: Bearer x\r\n\r\n"
    )
    assert post.endswith(b'Content-Length: 7\r\n\r\n{"k":1}')
    assert empty.endswith(b"Content-Length: 0\r\n\r\n")
