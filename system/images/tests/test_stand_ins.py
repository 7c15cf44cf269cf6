"""The images on an engine: stand-ins do what testcontainers asks of the official ones."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode

import psycopg
import pytest

from system.images.build import Images, docker

pytestmark = [
    pytest.mark.engine,
    # testcontainers' own: its clients are closed by the collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
PASSWORD = "a-password-of-these-tests"


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """Built if they are missing."""
    from testcontainers.core.config import ConnectionMode
    from testcontainers.core.config import testcontainers_config as settings

    settings.ryuk_disabled = True  # its image comes from a registry; each test ends its container
    settings.connection_mode_override = ConnectionMode.docker_host  # published ports
    settings.max_tries, settings.sleep_time = 300, 0.2
    return Images().build()


def run(image: str, *command: str) -> str:
    """The output of a command in a container as compose.yaml restrains it."""
    answer = subprocess.run(
        [
            docker(),
            "run",
            "--rm",
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges:true",
            "--network=none",
            image,
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_building_again_builds_nothing(images: dict[str, str]) -> None:
    """A warm run only looks."""
    said: list[str] = []

    assert Images(say=said.append).build() == images
    assert len(said) == 1  # no line about a single image


def test_postgres(images: dict[str, str]) -> None:
    """User, password and database of the environment; a password is needed; 15 or newer (R0.6)."""
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(
        images["POSTGRES_IMAGE"], username="someone", password=PASSWORD, dbname="theirs"
    ) as server:
        host, port = server.get_container_host_ip(), server.get_exposed_port(5432)
        place = f"host={host} port={port} user=someone dbname=theirs"
        with psycopg.connect(place, password=PASSWORD) as session:
            row = session.execute("SELECT current_setting('server_version_num')::int").fetchone()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(place, password="another")

    assert row is not None
    assert row[0] >= 150000


def test_rabbitmq(images: dict[str, str]) -> None:
    """The user of the environment may use management; `guest` is not there."""
    from testcontainers.community.rabbitmq import RabbitMqContainer

    with RabbitMqContainer(
        images["RABBITMQ_IMAGE"], username="someone", password=PASSWORD
    ).with_exposed_ports(15672) as server:
        place = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(15672)}"
        seen = _management(place, "someone", PASSWORD)
        refused = _management(place, "guest", "guest")

    assert seen == (200, "someone")
    assert refused == (401, "")


def test_redis(images: dict[str, str]) -> None:
    """The command line is redis-server's; without one, other containers may connect."""
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(images["REDIS_IMAGE"], password=PASSWORD) as server:
        client = server.get_client()
        assert client.set("key", "value")
        assert int(client.info()["redis_version"].split(".")[0]) >= 7
        client.close()
    with RedisContainer(images["REDIS_IMAGE"]) as server:
        client = server.get_client()
        assert client.ping()
        client.close()


@pytest.mark.parametrize("variable", ["APPLICATION_IMAGE", "EDGE_IMAGE"])
def test_ours_run_restrained(images: dict[str, str], variable: str) -> None:
    """An ordinary user, nothing to write to but /tmp, and all our code is importable."""
    program = (
        "import os, pathlib, sys, system.gateway.bootstrap, system.stack.schema\n"
        "places = ('/', '/app', '/opt/venv', '/etc', '/var')\n"
        "print(os.getuid(), [place for place in places if os.access(place, os.W_OK)])\n"
    )

    assert run(images[variable], "python", "-c", program) == "10001 []\n"


def test_no_tool_of_the_build_is_left(images: dict[str, str]) -> None:
    """No compiler, package manager of PyPI, tests or caches in the final stage."""
    found = run(
        images["APPLICATION_IMAGE"],
        "sh",
        "-c",
        "command -v gcc cc make uv; ls -d /opt/uv /root/.cache /app/pyproject.toml 2>/dev/null; "
        "find /app -name tests; find /opt/venv -name 'pip*' -maxdepth 5; true",
    )

    assert found == ""


def _management(place: str, user: str, password: str) -> tuple[int, str]:
    """Status of the broker's `whoami`, and the name in it; waits for it to listen."""
    request = urllib.request.Request(f"{place}/api/whoami")
    request.add_header(
        "Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)["name"]
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, ""
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
