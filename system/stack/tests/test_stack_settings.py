"""What the processes and the target file are told."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from system.platform.config.loading import load
from system.stack import environment, ports, target_file
from system.stack.credentials import Credentials, generate
from system.stack.parts import PARTS, PROGRAMS, SERVICES

PORTS = ports.free(usable=lambda _: True, seed=1)


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    """Generated secrets."""
    return generate()


@pytest.fixture
def target(credentials: Credentials, tmp_path: Path) -> dict[str, Any]:
    """A target file, written and read back."""
    values = target_file.document(
        name="one",
        project=Path("/a project"),
        ports=PORTS,
        credentials=credentials,
        ca=tmp_path / "ca.pem",
        logs=tmp_path / "logs",
    )
    return tomllib.loads(target_file.render(values))


@pytest.mark.parametrize("part", PROGRAMS)
def test_r0_16_every_process_accepts_its_environment(part: str, credentials: Credentials) -> None:
    """Production mode takes it, and ports and trust are those of this stack (R0.14, R0.16)."""
    settings = load(part, environment.process_environment(part, PORTS, credentials))

    assert settings.production
    assert settings.port == PORTS[part]
    assert settings.allow_demo_credentials
    assert settings.api_docs_enabled if part == "gateway" else settings.diagnostics_enabled
    trusted = environment.EDGE_SOURCE if part == "gateway" else environment.GATEWAY_SOURCE
    assert settings.trusted_proxies == frozenset({trusted})
    assert [str(network) for network in settings.rate_limit_exempt] in (
        [],
        ["127.0.0.2/32", "127.0.2.0/24"],
    )


def test_r0_16_the_gateway_waits_as_long_as_the_stack_says(credentials: Credentials) -> None:
    """UPSTREAM_TIMEOUT_MS is 3000 unless a full-length run asks for more (R0.16)."""
    usual = environment.process_environment("gateway", PORTS, credentials)
    longer = environment.process_environment(
        "gateway", PORTS, credentials, upstream_timeout_ms=30000
    )

    assert usual["UPSTREAM_TIMEOUT_MS"] == "3000"
    assert longer["UPSTREAM_TIMEOUT_MS"] == "30000"


def test_each_process_gets_only_its_own_secrets(credentials: Credentials) -> None:
    """No service knows another's database, and only auth signs refresh tokens (R0.12, R0.19)."""
    for part in PROGRAMS:
        told = json.dumps(environment.process_environment(part, PORTS, credentials))
        for service in SERVICES:
            assert (credentials.runtimes[service] in told) == (service == part)
            assert credentials.owners[service] not in told
            assert credentials.superusers[service] not in told
        assert (credentials.refresh.secret in told) == (part == "auth")
        assert (credentials.psp_webhook in told) == (part == "payments")
        assert credentials.broker["operator"] not in told


def test_secrets_are_long_and_never_twice(credentials: Credentials) -> None:
    """At least 32 characters each, and two stacks share none (R0.14)."""
    other = generate()
    ours = _texts(credentials.to_document())

    assert all(len(text) >= 32 for text in ours)
    assert len(set(ours)) == len(ours)
    assert not set(ours) & set(_texts(other.to_document()))


def test_credentials_come_back_from_the_document(credentials: Credentials) -> None:
    """Another process that knows the state folder has the same secrets."""
    document = json.loads(json.dumps(credentials.to_document()))

    assert Credentials.from_document(document) == credentials


def test_the_origin_names_a_port_only_if_it_must() -> None:
    """443 and 80 are understood."""
    assert environment.public_origin({"edge-https": 443}) == "https://localhost"
    assert environment.public_origin({"edge-https": 8443}) == "https://localhost:8443"
    assert environment.plain_origin({"edge-http": 80}) == "http://localhost"


def test_tests_measure_the_processes_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage's variables reach the services; nothing else of the caller's environment does."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "x")
    monkeypatch.setenv("SOMETHING_ELSE", "y")

    told = environment.interpreter_environment(Path("/project"))

    assert told["COVERAGE_PROCESS_CONFIG"] == "x"
    assert told["PYTHONPATH"] == "/project"
    assert "SOMETHING_ELSE" not in told


def test_the_target_lists_every_part_and_how_to_control_it(target: dict[str, Any]) -> None:
    """All twelve are there; what is not built says so."""
    assert all(target["parts"][part] is True for part in PARTS)
    assert all(value is True or value for value in target["parts"].values())
    for part in PARTS:
        assert target["control"][part]["stop"].endswith(f"--stack one control {part} stop")
        assert "'PYTHONPATH=/a project'" in target["control"][part]["stop"]


def test_the_target_grants_the_access_it_promises(
    target: dict[str, Any], credentials: Credentials
) -> None:
    """Addresses, accounts and credentials are those of the running stack."""
    assert target["http"]["origin"] == f"https://localhost:{PORTS['edge-https']}"
    assert target["http"]["websocket"] == f"wss://localhost:{PORTS['edge-https']}/ws"
    assert target["services"]["admin"]["url"] == f"http://127.0.0.1:{PORTS['admin']}"
    assert target["accounts"]["vendor"]["email"] == "vendor@example.com"
    assert target["access"]["keys"]["refresh"]["secret"] == credentials.refresh.secret
    assert target["access"]["webhooks"]["secret"] == credentials.psp_webhook
    assert credentials.superusers["auth"] in target["access"]["db"]["auth"]["url"]
    assert credentials.runtimes["auth"] in target["access"]["db"]["auth"]["service_url"]
    assert target["commands"]["dlq"].endswith("'/a project/bin/dlq'")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (3000, 3000),
        ('say "x" \\ y', 'say "x" \\ y'),
        (["a", "b"], ["a", "b"]),
        ({"odd key": {"deep": "x"}}, {"odd key": {"deep": "x"}}),
        ({}, {}),
    ],
)
def test_values_survive_toml(value: object, expected: object) -> None:
    """What is written is what is read."""
    assert tomllib.loads(target_file.render({"value": value})) == {"value": expected}


def test_a_control_character_is_refused() -> None:
    """It would break the file for every reader."""
    with pytest.raises(ValueError, match="control character"):
        target_file.render({"value": "a\nb"})


def _texts(value: object) -> list[str]:
    """All secrets in a document of credentials."""
    if isinstance(value, dict):
        return [
            text
            for key, item in value.items()
            if key not in ("kid", "created_at")
            for text in _texts(item)
        ]
    return [str(value)]
