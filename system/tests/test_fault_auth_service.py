"""auth-service stopped and frozen while the others run: what needs it says so, the rest goes on."""

from __future__ import annotations

import time

import httpx
import pytest

from system.conftest import RunningStack
from system.tests.desks import Desk, away, new_key, pids, readiness, refused, until

pytestmark = pytest.mark.platform

_OTHERS = ("payments", "admin", "profile")


@pytest.mark.parametrize(
    ("manner", "expected"),
    [("stop", (502, "BAD_GATEWAY")), ("pause", (504, "GATEWAY_TIMEOUT"))],
)
def test_r1_56_auth_service_is_away_and_returns(
    well: RunningStack, desk: Desk, manner: str, expected: tuple[int, str]
) -> None:
    """Not ready is who says so; sessions known to Redis go on; R0.10: log-ins within 10 s after."""
    processes = pids(well)
    keys = {service: new_key() for service in _OTHERS}

    with away(well, "auth", manner):
        until(lambda: readiness(well, "gateway")[0] == 503, 8)
        assert readiness(well, "gateway")[1]["authService"] == "down"
        for service in _OTHERS:
            assert readiness(well, service)[0] == 200
            assert desk.write(service, keys[service]).is_success
        answer = desk.ask("POST", "/api/auth/login", None, well.account("vendor"))
        assert (answer.status_code, answer.json()["error"]["code"]) == expected
    until(lambda: desk.ask("POST", "/api/auth/login", None, well.account("vendor")).is_success, 10)
    until(lambda: "down" not in readiness(well, "gateway")[1].values(), 10)

    now = pids(well)
    assert {name: now[name] for name in (*_OTHERS, "gateway")} == {
        name: processes[name] for name in (*_OTHERS, "gateway")
    }
    for service in _OTHERS:
        desk.all_arrived_once(service, [keys[service]])


def test_r1_38_nobody_can_tell_whether_a_session_is_open(well: RunningStack, desk: Desk) -> None:
    """With Redis and auth-service down protected routes are 503, at gateway and services alike."""
    token = {"Authorization": f"Bearer {desk.token('customer')}"}
    direct = f"{well.services['payments']}/payments"

    with away(well, "redis"), away(well, "auth"):
        # A positive result may be kept for 500 ms.
        time.sleep(0.5)
        refused(desk.ask("GET", "/api/payments"))
        refused(httpx.get(direct, headers=token, timeout=5))
        refused(desk.write("profile", new_key()))
        assert desk.ask("GET", "/api/payments", None).status_code == 401
    until(desk.pays_again, 10)
