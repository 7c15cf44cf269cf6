"""Joins what the services say about their routes into the description of the whole API (R1.154)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from system.gateway.domain.routes import ROUTES, Route, Service

VERSION: Final = "3.1.0"
TITLE: Final = "Payments platform"
ABOUT: Final = (
    "Every answer is an envelope: `success` with `data`, or with `error` that holds a `code` of a "
    "closed set, a `message` for people and sometimes `details`. Unknown members and parameters "
    "are ignored, known ones always checked. Times are UTC, ids are UUIDs."
)
_NAME: Final = re.compile(r"\{\w+\}")
_COLON: Final = re.compile(r":(\w+)")

Document = Mapping[str, Any]


class Clash(ValueError):
    """Two services use one name for different things."""


def join(
    services: Mapping[Service, Document],
    own: Document,
    *,
    origin: str,
    security: Mapping[str, Any],
    routes: Iterable[Route] = ROUTES,
) -> dict[str, Any]:
    """Write the document of the public API.

    Args:
        services: `paths` and `components` of each service, with its own paths.
        own: the same of the gateway itself, with public paths.
        origin: under which the API is reached.
        security: the security schemes by name.
        routes: what the gateway passes on; everything else a service describes is left out.

    Returns:
        OpenAPI 3.1; paths in the order of the routes.

    Raises:
        Clash: a name of a component or an operation means two things.
    """
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for path, item in own["paths"].items():
        paths[path] = dict(item)
    _collect(schemas, own)
    described = {
        service: {_NAME.sub("{}", path): item for path, item in document["paths"].items()}
        for service, document in services.items()
    }
    for route in routes:
        template = _COLON.sub(r"{\1}", route.template)
        inside = _NAME.sub("{}", route.service_path(template))
        operation = described.get(route.service, {}).get(inside, {}).get(route.method.lower())
        if operation is not None:
            renamed = _with_names(operation, _COLON.findall(route.template))
            paths.setdefault(template, {})[route.method.lower()] = renamed
    for document in services.values():
        _collect(schemas, document)
    _check_ids(paths)
    return {
        "openapi": VERSION,
        "info": {"title": TITLE, "version": "1.0.0", "description": ABOUT},
        "servers": [{"url": origin}],
        "paths": _without_dead_links(paths),
        "components": {"schemas": _used(schemas, paths), "securitySchemes": dict(security)},
    }


def _collect(schemas: dict[str, Any], document: Document) -> None:
    for name, schema in document["components"]["schemas"].items():
        if schemas.setdefault(name, schema) != schema:
            raise Clash(f"seen two schemas named {name}, expected one")


def _with_names(operation: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """The operation with its path parameters, in their order, as the public path names them."""
    left = iter(names)
    return {
        **operation,
        **(
            {
                "parameters": [
                    {**parameter, "name": next(left)} if parameter["in"] == "path" else parameter
                    for parameter in operation["parameters"]
                ]
            }
            if "parameters" in operation
            else {}
        ),
    }


def _check_ids(paths: Mapping[str, Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for path, item in paths.items():
        for method, operation in item.items():
            name = operation["operationId"]
            if name in seen:
                raise Clash(f"seen {name} again at {method.upper()} {path}, expected one operation")
            seen.add(name)


def _without_dead_links(paths: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave out links to operations that are not in the document."""
    known = {operation["operationId"] for item in paths.values() for operation in item.values()}

    def answer(response: Mapping[str, Any]) -> dict[str, Any]:
        links = {name: link for name, link in response.get("links", {}).items() if name in known}
        rest = {name: value for name, value in response.items() if name != "links"}
        return {**rest, "links": links} if links else rest

    return {
        path: {
            method: {
                **operation,
                "responses": {
                    status: answer(response) for status, response in operation["responses"].items()
                },
            }
            for method, operation in item.items()
        }
        for path, item in paths.items()
    }


def _used(schemas: Mapping[str, Any], paths: Any) -> dict[str, Any]:
    """The schemas that the paths lead to."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                walk(schemas[name])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(paths)
    return {name: schemas[name] for name in sorted(found)}
