"""R1.54-R1.56: what a process says about itself."""

from __future__ import annotations

import asyncio
import re

import pytest

from system.platform.http import health as health_module
from system.platform.http.errors import ApiError
from system.platform.http.health import Health


class Dependency:
    """A dependency that can be taken away and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken: Exception | None = None

    async def check(self) -> None:
        """Answer, or fail."""
        self.asked += 1
        if self.broken is not None:
            raise self.broken


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def parts() -> dict[str, Dependency]:
    """The three dependencies of a service."""
    return {name: Dependency() for name in ("database", "redis", "rabbitmq")}


@pytest.fixture
def health(clock: Clock, parts: dict[str, Dependency]) -> Health:
    """A service that needs its database."""
    return Health(
        "auth-service",
        {name: part.check for name, part in parts.items()},
        {"database"},
        clock=clock,
    )


def test_liveness_has_the_one_shape(health: Health, clock: Clock) -> None:
    """R1.54: fields, their order of magnitude, their form."""
    clock.seconds += 12.3456

    data = health.alive()

    assert data | {"timestamp": ""} == {
        "status": "alive",
        "alive": True,
        "service": "auth-service",
        "timestamp": "",
        "uptime": 12.346,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["timestamp"])
    assert health.healthy()["status"] == "healthy"


def test_liveness_asks_nobody(health: Health, parts: dict[str, Dependency]) -> None:
    """R1.54: a dead database does not make a process dead."""
    health.healthy()
    health.alive()

    assert all(part.asked == 0 for part in parts.values())


async def test_ready(health: Health) -> None:
    """R1.54: every check is up."""
    data = await health.ready()

    assert (data["status"], data["ready"]) == ("ready", True)
    assert list(data["checks"]) == ["database", "redis", "rabbitmq"]
    assert all(check == {"status": "up", "latencyMs": 0} for check in data["checks"].values())


@pytest.mark.parametrize("missing", ["redis", "rabbitmq"])
async def test_degraded(health: Health, parts: dict[str, Dependency], missing: str) -> None:
    """R1.56: without Redis or RabbitMQ a service works on and says so."""
    parts[missing].broken = ConnectionRefusedError("127.0.0.1:6379")

    data = await health.ready()

    assert (data["status"], data["ready"]) == ("degraded", True)
    assert data["checks"][missing]["status"] == "down"
    assert "127.0.0.1" not in str(data)


async def test_not_ready(health: Health, parts: dict[str, Dependency]) -> None:
    """R1.56: without its database a service is not ready."""
    parts["database"].broken = OSError("host=secret")

    with pytest.raises(ApiError) as caught:
        await health.ready()

    error = caught.value
    assert (error.status, error.code, error.message) == (
        503,
        "SERVICE_UNAVAILABLE",
        "Service not ready",
    )
    assert error.details["checks"]["database"]["status"] == "down"
    assert error.details["checks"]["redis"]["status"] == "up"
    assert "secret" not in str(error.body())


async def test_results_are_kept_one_second(
    health: Health, parts: dict[str, Dependency], clock: Clock
) -> None:
    """R1.54: at most 1 s old, and asked again after that."""
    await health.ready()
    clock.seconds += 0.99
    await health.ready()
    assert parts["redis"].asked == 1

    clock.seconds += 0.02
    parts["redis"].broken = OSError()
    assert (await health.ready())["status"] == "degraded"


async def test_simultaneous_callers_share_one_question(
    health: Health, parts: dict[str, Dependency]
) -> None:
    """A flood of readiness requests is one question to each dependency."""
    await asyncio.gather(*(health.ready() for _ in range(20)))

    assert parts["database"].asked == 1


async def test_a_check_that_hangs_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1.54: no dependency is waited for longer than the limit."""
    monkeypatch.setattr(health_module, "CHECK_TIMEOUT_S", 0.02)

    async def hang() -> None:
        await asyncio.Event().wait()

    health = Health("api-gateway", {"redis": hang}, ())

    assert (await health.ready())["checks"]["redis"]["status"] == "down"


async def test_a_check_that_answers_false_is_down() -> None:
    """A check may answer instead of raising."""

    async def no() -> bool:
        return False

    assert (await Health("x", {"redis": no}, ()).ready())["status"] == "degraded"


def test_essential_checks_must_exist() -> None:
    """A misspelt dependency is noticed when the process is put together."""
    with pytest.raises(ValueError, match="databse"):
        Health("x", {}, {"databse"})
