"""R1.154 on the running platform: the description is served, valid, complete and true."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
import yaml

from system.gateway.domain.routes import ROUTES, Access

pytestmark = pytest.mark.platform

PASSWORD = "Harbour-Light-42"
UNKNOWN = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    """A client of the edge from an address that no limit counts."""
    transport = httpx.HTTPTransport(verify=stack.trust, local_address=stack.exempt)
    with httpx.Client(base_url=stack.origin, transport=transport, timeout=20) as client:
        yield client


@pytest.fixture
def described(http: httpx.Client) -> dict[str, Any]:
    """The document."""
    answer = http.get("/api-docs.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def token_of(http: httpx.Client, stack: Any, access: Access) -> dict[str, str]:
    """Headers of a fresh session: an administrator's, or a newcomer's whom nothing can hurt."""
    if access is Access.PUBLIC:
        return {}
    if access is Access.ADMIN:
        account = stack.account("admin")
        body = {"email": account["email"], "password": account["password"]}
        answer = http.post("/api/auth/login", json=body)
    else:
        email = f"{uuid.uuid4()}@x.test"
        body = {"email": email, "password": PASSWORD, "name": "Newcomer"}
        answer = http.post("/api/auth/register", json=body)
    assert answer.is_success, answer.text
    return {"Authorization": f"Bearer {answer.json()['data']['accessToken']}"}


def test_r1_154_the_document_is_valid_openapi_3_1(described: dict[str, Any]) -> None:
    """By the meta-schema of OpenAPI 3.1, and every schema in it by that of JSON Schema 2020-12."""
    assert described["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(described).validate()
    for schema in described["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_r1_154_yaml_and_json_are_one_document(
    http: httpx.Client, described: dict[str, Any]
) -> None:
    """Each with its media type."""
    written = http.get("/api-docs.yaml")
    assert written.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(written.text) == described


def test_r1_154_the_viewer_works_offline_under_the_policy(
    http: httpx.Client, described: dict[str, Any]
) -> None:
    """One page, every operation on it, nothing loaded from anywhere, no script (R5.24)."""
    answer = http.get("/api-docs")
    assert answer.headers["content-type"].startswith("text/html")
    for path in described["paths"]:
        assert path in answer.text
    assert "<script" not in answer.text
    assert " src=" not in answer.text
    assert "<link" not in answer.text


def test_r1_154_exactly_the_routes_that_answer_are_described(
    http: httpx.Client, stack: Any, described: dict[str, Any]
) -> None:
    """A route that exists is in the document, one that does not is not."""
    existing = {("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready")}
    for route in ROUTES:
        path = "/".join(
            UNKNOWN if part.startswith(":") else part for part in route.template.split("/")
        )
        answer = http.request(route.method, path, headers=token_of(http, stack, route.access))
        missing = (
            answer.status_code == 404
            and answer.json()["error"]["message"] == f"Route {route.method} {path} not found"
        )
        if not missing:
            template = "/".join(
                "{" + part[1:] + "}" if part.startswith(":") else part
                for part in route.template.split("/")
            )
            existing.add((route.method, template))
    assert {
        (method.upper(), path) for path, item in described["paths"].items() for method in item
    } == existing


def test_r1_154_examples_are_valid_requests(
    http: httpx.Client, stack: Any, described: dict[str, Any]
) -> None:
    """Each is sent as it stands: none is refused for its form."""
    access = {(route.method, route.template): route.access for route in ROUTES}
    tried = 0
    for path, item in described["paths"].items():
        for method, operation in item.items():
            if "requestBody" not in operation:
                continue
            values: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
            for parameter in operation.get("parameters", ()):
                if "example" in parameter and (
                    parameter["required"] or parameter["in"] != "header"
                ):
                    values[parameter["in"]][parameter["name"]] = str(parameter["example"])
            template = path.replace("{", ":").replace("}", "")
            answer = http.request(
                method,
                path.format(**values["path"]),
                params=values["query"],
                headers={
                    **values["header"],
                    **token_of(http, stack, access[method.upper(), template]),
                },
                json=operation["requestBody"]["content"]["application/json"]["example"],
            )
            assert answer.status_code != 400, (method, path, answer.text)
            tried += 1
    assert tried > 0


def test_r1_154_answers_are_as_described(
    http: httpx.Client, stack: Any, described: dict[str, Any]
) -> None:
    """What each readable route without parameters gives is what its schema says."""
    access = {(route.method, route.template): route.access for route in ROUTES}
    tried = 0
    for path, item in described["paths"].items():
        if "get" not in item or "{" in path:
            continue
        who = access.get(("GET", path), Access.PUBLIC)
        answer = http.get(path, headers=token_of(http, stack, who))
        responses = item["get"]["responses"]
        assert str(answer.status_code) in responses, (path, answer.text)
        schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
        whole = {**schema, "components": described["components"]}
        jsonschema_rs.validate(whole, json.loads(answer.text))
        tried += 1
    assert tried > 0


def test_r1_154_without_api_docs_enabled_the_paths_are_404(stack: Any) -> None:
    """The switch is the gateway's."""
    stack.restart_with("gateway", {"API_DOCS_ENABLED": "false"})
    try:
        stack.until_ready()
        for path in ("/api-docs", "/api-docs.json", "/api-docs.yaml"):
            answer = httpx.get(stack.services["gateway"] + path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    finally:
        stack.restart("gateway")
        stack.until_ready()
