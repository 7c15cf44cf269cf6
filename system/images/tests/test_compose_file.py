"""What a newcomer relies on in compose.yaml, read from `docker compose config`; needs no engine."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from system.stack.compose import FILE, PROFILES, Project
from system.stack.parts import DATABASES, PARTS, SERVICES
from system.stack.state import StateFolder

OURS = {"application", "edge", "relay", "load"}
DOCKERFILE = FILE.parent / "images" / "Dockerfile"


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """An env file as `python -m system compose env` writes it."""
    state = StateFolder(f"test-compose-{Path.cwd().name}")
    try:
        made = Project(state)
        made.prepare()
        yield made
    finally:
        state.remove()


@pytest.fixture(scope="module")
def whole(project: Project) -> dict[str, Any]:
    """The configuration with every profile."""
    return resolved(project, PROFILES)


@cache
def resolved(project: Project, profiles: tuple[str, ...]) -> dict[str, Any]:
    """What compose makes of the file."""
    answer = subprocess.run(
        [*project.arguments(*profiles), "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr, answer.stderr  # such as a variable that is not set
    made: dict[str, Any] = json.loads(answer.stdout)
    return made


@pytest.mark.parametrize("profiles", [(), *((name,) for name in PROFILES), PROFILES])
def test_every_profile_is_valid(project: Project, profiles: tuple[str, ...]) -> None:
    """`docker compose config` takes the file with each profile and with all."""
    services = resolved(project, profiles)["services"]

    assert set(PARTS) <= set(services)


def test_the_env_file_is_complete(project: Project) -> None:
    """Every variable that compose.yaml has no default for is in the env file, and none is weak."""
    text = re.sub(r"(?m)^\s*#.*$", "", FILE.read_text(encoding="utf-8"))
    lines = project.env_file.read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines)

    needed = set(re.findall(r"\$\{([A-Z_]+)(?::\?[^}]*)?\}", text))
    assert needed - {"COMPOSE_PROJECT_NAME"} <= set(given)
    secrets = [name for name in needed if name.endswith(("_PASSWORD", "_TOKEN", "_SECRET"))]
    assert len(secrets) > 10
    assert all(len(given[name].strip("'")) >= 32 for name in secrets)
    assert project.env_file.stat().st_mode & 0o777 == 0o600
    assert project.env_file.parent.stat().st_mode & 0o777 == 0o700


def test_secrets_stay_when_the_env_file_is_written_again(project: Project) -> None:
    """A second `compose env` does not lock the platform out of its own databases."""
    before = project.env_file.read_text(encoding="utf-8")

    project.prepare()

    assert project.env_file.read_text(encoding="utf-8") == before


def test_the_env_file_says_how_many_run(project: Project) -> None:
    """Of a part by itself; whoever has compose start something later changes nothing about it."""
    before = project.env_file.read_text(encoding="utf-8")

    project.set_replicas({"gateway": 3})
    try:
        answer = subprocess.run(
            [*project.arguments(), "config", "--format", "json"], capture_output=True, check=True
        )
        services = json.loads(answer.stdout)["services"]
        assert {name: services[name]["scale"] for name in ("gateway", *SERVICES)} == {
            "gateway": 3,
            **dict.fromkeys(SERVICES, 1),
        }
    finally:
        project.set_replicas({"gateway": 1})
    assert project.env_file.read_text(encoding="utf-8") == before


def test_r0_7_only_the_edge_is_published(project: Project) -> None:
    """R0.7: ports 80 and 443 of the edge, on loopback; nothing else of the platform."""
    services = resolved(project, ())["services"]

    published = {
        name: [(port["host_ip"], port["target"]) for port in service["ports"]]
        for name, service in services.items()
        if service.get("ports")
    }
    assert published == {"edge": [("127.0.0.1", 443), ("127.0.0.1", 80)]}


def test_r0_7_nothing_listens_beyond_loopback(whole: dict[str, Any]) -> None:
    """R0.7: what profiles publish, they publish to this machine."""
    ports = [port for service in whole["services"].values() for port in service.get("ports", [])]

    assert len(ports) > 10
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_service_is_restrained(whole: dict[str, Any]) -> None:
    """Read-only root, no capabilities, no new privileges, limits; a restart unless it is a job."""
    for name, service in whole["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert service["restart"] == ("no" if name == "schema" else "unless-stopped"), name
        assert not service.get("privileged"), name
        # Only the relay makes addresses its own.
        assert bool(service.get("cap_add")) == (name == "relay"), name


def test_every_service_has_a_health_check(whole: dict[str, Any]) -> None:
    """Of its own, or its image's with a port to ask; the job ends instead."""
    for name, service in whole["services"].items():
        if name == "schema":
            assert service["healthcheck"] == {"disable": True}
        elif _image(service) in OURS:
            assert service["environment"]["HEALTH_PORT"].isdigit(), name
        else:
            assert service["healthcheck"]["test"], name
    assert (
        DOCKERFILE.read_text().count("HEALTHCHECK") == 2
    )  # application and what stands on it, load


def test_nobody_is_root(whole: dict[str, Any]) -> None:
    """Servers by compose, our images by themselves; the relay gives root up when it has begun."""
    for name, service in whole["services"].items():
        if _image(service) not in OURS:
            assert service["user"].split(":")[0] not in ("", "0", "root"), name
    users: dict[str, str] = {}
    stage = ""
    for line in DOCKERFILE.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            stage = found[2]
            users[stage] = users.get(found[1], "root")
        elif line.startswith("USER "):
            users[stage] = line.removeprefix("USER ")
    assert {name: users[name] for name in OURS} == {
        "application": "10001:10001",
        "edge": "10001:10001",
        "load": "10001:10001",
        "relay": "root",
    }


def test_images_are_pinned() -> None:
    """Names of images have an exact version, in compose.yaml and in the Dockerfile."""
    text = FILE.read_text(encoding="utf-8") + DOCKERFILE.read_text(encoding="utf-8")
    defaults = re.findall(r"_IMAGE(?::-|=)([^}\s]+)", text)
    foreign = [name for name in defaults if not name.startswith("seatrial/")]

    assert len(foreign) == 8
    for name in foreign:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)*$|@sha256:", name), name


def test_parts_scale() -> None:
    """No service has a name of its own, and only those that stay one have a fixed address."""
    text = FILE.read_text(encoding="utf-8")

    assert "container_name" not in text
    assert len(re.findall(r"ipv4_address", text)) == 3  # edge; relay, twice


def test_each_database_has_a_network_of_its_own(whole: dict[str, Any]) -> None:
    """R0.12: only its service, the job and the relay reach a database."""
    for service in SERVICES:
        network = f"data-{service}"
        inside = {
            name for name, part in whole["services"].items() if network in part.get("networks", {})
        }
        assert inside == {service, f"postgres-{service}", "schema", "relay"}
    for database in DATABASES:
        assert len(whole["services"][database]["networks"]) == 1
    outside = {name for name, net in whole["networks"].items() if not net.get("internal")}
    assert outside == {"front", "watching"}


def test_who_is_believed(whole: dict[str, Any]) -> None:
    """R0.16: the gateway believes the edge alone, services the range that gateways come from."""
    services = whole["services"]
    edge = services["edge"]["networks"]["front"]["ipv4_address"]
    assert services["gateway"]["environment"]["TRUSTED_PROXIES"] == edge
    relay = services["relay"]["networks"]
    ranges = {
        name: ipaddress.ip_network(whole["networks"][name]["ipam"]["config"][0]["ip_range"])
        for name in ("front", "inside")
    }
    for service in SERVICES:
        trusted = ipaddress.ip_network(services[service]["environment"]["TRUSTED_PROXIES"])
        assert trusted == ranges["inside"]
        assert ipaddress.ip_address(relay["inside"]["ipv4_address"]) not in trusted
        host = whole["networks"]["inside"]["ipam"]["config"][0]["gateway"]
        assert ipaddress.ip_address(host) not in trusted  # the machine itself
    for text in services["relay"]["environment"]["CLIENT_NETWORKS"].split(","):
        clients = ipaddress.ip_network(text)
        assert not clients.overlaps(ranges["front"])  # never given to a container
        assert ipaddress.ip_address(edge) not in clients


def _image(service: dict[str, Any]) -> str:
    name: str = service["image"]
    return name.removeprefix("seatrial/").partition(":")[0] if "seatrial/" in name else ""


def test_workers_have_a_whole_target(project: Project) -> None:
    """Locust in profile `load` loads the people and payments it needs from what is mounted."""
    folder = project.files / "load"
    document = tomllib.loads((folder / "target.toml").read_text(encoding="utf-8"))

    assert (folder / "ca.pem").read_bytes() == project.ca.read_bytes()
    assert document["http"] == {"origin": "https://localhost", "ca": "/run/target/ca.pem"}
    assert document["addresses"]["exempt"] == ["127.0.2.0/24"]  # the edge's and gateway's, too
    assert set(document["accounts"]["admin"]) == {"email", "password"}
