"""Describes the routes of a service for OpenAPI 3.1, from the code that serves them (R1.154).

Each public handler says once, beside its path, what it takes and gives:

    @post("/payments")
    @operation(
        "Create a payment",
        body=NEW_PAYMENT,                       # Schema objects of validation.py, the same ones
        headers=KEY_HEADER,                     # that the handler parses; also query=, path=
        answers={201: PAYMENT},                 # shapes of shapes.py; None for an empty answer;
                                                # the envelope of R1.1 is added here
        errors={404: ["RECIPIENT_NOT_FOUND"]},  # the codes of R1.18 this route has of its own
        links={201: {"getPayment": {"id": "data/id"}}},
    )
    async def create_payment(request: AnyRequest) -> Reply:

`who` is `ANY_ROLE` if nothing is said, else `PUBLIC` or `ADMIN`.  The operation's id is the
handler's name in camel case.  What follows from the rest is added here: 401 for a token, 403 for
ADMIN, VALIDATION_ERROR for any input, INVALID_JSON and 413 for a body, NOT_FOUND for a path with
parameters, 429 and the 5xx of the gateway.  A path is written as the service has it; the gateway
gives it its public prefix and drops what it does not route.

Every `Schema` needs an example: `example=` on each required field whose kind has none of its own.
`create_app` serves the description of all such handlers at `GET /internal/openapi.json`, from where
the gateway takes it; a handler without `@operation` is not described.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from system.platform.http.errors import CODES
from system.platform.http.json_fields import JSON_VALUE
from system.platform.http.shapes import Part, constant, render
from system.platform.http.validation import Schema

VERSION: Final = "3.1.0"
DOCUMENT_PATH: Final = "/internal/openapi.json"
JSON: Final = "application/json"
SECURITY_SCHEME: Final = "accessToken"

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_ATTRIBUTE: Final = "__seatrial_operation__"


class Who(Enum):
    """Who may call (R1.28)."""

    PUBLIC = "anybody"
    ANY_ROLE = "anybody with an access token"
    ADMIN = "an ADMIN"


PUBLIC: Final = Who.PUBLIC
ANY_ROLE: Final = Who.ANY_ROLE
ADMIN: Final = Who.ADMIN

Links = Mapping[int, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one route takes and gives; see the module.

    Attributes:
        summary: what it does, a few words in the imperative.
        who: who may call.
        path, query, headers, body: the inputs.
        answers: the shape of `data` by status; None for an answer without a body.
        errors: codes by status, beside those which follow from the rest.
        links: by status of this answer and id of the next operation of the same service: its path
            parameters, each as a place in this answer (`data/id`).
    """

    summary: str
    answers: Mapping[int, Part | None]
    who: Who = Who.ANY_ROLE
    path: Schema | None = None
    query: Schema | None = None
    headers: Schema | None = None
    body: Schema | None = None
    errors: Mapping[int, Sequence[str]] = field(default_factory=dict)
    links: Links = field(default_factory=dict)

    def __post_init__(self) -> None:
        for status, codes in self.errors.items():
            if unknown := set(codes) - CODES.get(status, frozenset()):
                raise ValueError(f"seen {status} {sorted(unknown)}, expected codes of R1.18")


Handler = TypeVar("Handler", bound=Callable[..., Any])


def operation(
    summary: str,
    *,
    answers: Mapping[int, Part | None],
    who: Who = Who.ANY_ROLE,
    path: Schema | None = None,
    query: Schema | None = None,
    headers: Schema | None = None,
    body: Schema | None = None,
    errors: Mapping[int, Sequence[str]] | None = None,
    links: Links | None = None,
) -> Callable[[Handler], Handler]:
    """Describe the handler below; goes between Litestar's decorator and the function."""
    given = Operation(
        summary=summary,
        answers=answers,
        who=who,
        path=path,
        query=query,
        headers=headers,
        body=body,
        errors=errors or {},
        links=links or {},
    )

    def remember(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, given)
        return handler

    return remember


def operation_of(handler: object) -> Operation | None:
    """The operation of a handler function, or None if it has none."""
    found = getattr(handler, _ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None


@dataclass(frozen=True, slots=True)
class Described:
    """A route with its description.

    Attributes:
        method: in upper case.
        path: as the service's framework has it, `/payments/{id:str}`.
        name: of the handler function.
        operation: what it takes and gives.
    """

    method: str
    path: str
    name: str
    operation: Operation


def document(routes: Iterable[Described], tag: str) -> dict[str, Any]:
    """Write the description of a service: `paths` and `components`, its own paths.

    Args:
        routes: of the service.
        tag: groups them, the service's short name.

    Raises:
        ValueError: an input has no example, or two shapes or operations share a name.
    """
    components: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for route in sorted(routes, key=lambda route: (route.path, route.method)):
        name = operation_id(route.name)
        if name in seen:
            raise ValueError(f"seen two operations {name}, expected different handler names")
        seen.add(name)
        path = _PARAMETER.sub(r"{\1}", route.path)
        try:
            written = _operation(route.operation, name, tag, components)
        except ValueError as error:
            raise ValueError(f"{route.method} {path}: {error}") from error
        paths.setdefault(path, {})[route.method.lower()] = written
    # The schemas of inputs lead to it; whoever joins documents leaves out what nobody needs.
    components["JsonValue"] = JSON_VALUE
    return {"paths": paths, "components": {"schemas": components}}


def operation_id(handler_name: str) -> str:
    """`create_payment` is `createPayment`."""
    first, *rest = handler_name.strip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def _operation(given: Operation, name: str, tag: str, components: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "summary": given.summary,
        "security": [] if given.who is Who.PUBLIC else [{SECURITY_SCHEME: []}],
    }
    if given.who is Who.ADMIN:
        written["description"] = "ADMIN only."
    parameters = [
        parameter
        for place, schema in (
            ("path", given.path),
            ("query", given.query),
            ("header", given.headers),
        )
        if schema is not None
        for parameter in _parameters(place, schema)
    ]
    if parameters:
        written["parameters"] = parameters
    if given.body is not None:
        written["requestBody"] = {
            "required": not given.body.accepts({}),
            "content": {
                JSON: {"schema": given.body.describe(), "example": given.body.example()},
            },
        }
    written["responses"] = {
        **{
            str(status): _answer(part, given.links.get(status), components)
            for status, part in given.answers.items()
        },
        **{
            str(status): _failure(status, codes)
            for status, codes in sorted(error_codes(given).items())
        },
    }
    return written


def _parameters(place: str, schema: Schema) -> Iterable[dict[str, Any]]:
    example = schema.example()
    for name, member in schema.fields.items():
        written = member.describe()
        parameter: dict[str, Any] = {
            "name": name,
            "in": place,
            "required": place == "path" or not member.is_optional,
        }
        if (description := written.pop("description", None)) is not None:
            parameter["description"] = description
        if name in example:
            parameter["example"] = example[name]
        yield {**parameter, "schema": written}


def error_codes(given: Operation) -> dict[int, list[str]]:
    """All codes by status that a route can answer with, its own and those of its kind."""
    codes: dict[int, set[str]] = {
        429: {"RATE_LIMIT_EXCEEDED"},
        500: {"INTERNAL_ERROR"},
        502: {"BAD_GATEWAY"},
        503: {"SERVICE_UNAVAILABLE"},
        504: {"GATEWAY_TIMEOUT"},
    }

    def add(status: int, *more: str) -> None:
        codes.setdefault(status, set()).update(more)

    for status, own in given.errors.items():
        add(status, *own)
    if given.who is not Who.PUBLIC:
        add(401, "UNAUTHORIZED", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED")
    if given.who is Who.ADMIN:
        add(403, "FORBIDDEN")
    if given.path is not None:
        add(404, "NOT_FOUND")
    if any(schema is not None for schema in (given.path, given.query, given.headers, given.body)):
        add(400, "VALIDATION_ERROR")
    add(400, "BAD_REQUEST")
    if given.body is not None:
        add(400, "INVALID_JSON")
    add(413, "PAYLOAD_TOO_LARGE")
    return {status: sorted(found) for status, found in codes.items()}


def _answer(
    part: Part | None,
    links: Mapping[str, Mapping[str, str]] | None,
    components: dict[str, Any],
) -> dict[str, Any]:
    if part is None:
        return {"description": "Done; no body"}
    schema = {
        "type": "object",
        "properties": {"success": constant(True), "data": render(part, components)},
        "required": ["success", "data"],
        "additionalProperties": False,
    }
    written: dict[str, Any] = {
        "description": "Success",
        "content": {JSON: {"schema": schema}},
    }
    if links:
        written["links"] = {
            target: {
                "operationId": target,
                "parameters": {
                    name: f"$response.body#/{place}" for name, place in parameters.items()
                },
            }
            for target, parameters in links.items()
        }
    return written


def _failure(status: int, codes: Sequence[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "success": constant(False),
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "enum": list(codes)},
                    "message": {"type": "string"},
                    "details": {},
                },
                "required": ["code", "message"],
                "additionalProperties": False,
            },
        },
        "required": ["success", "error"],
        "additionalProperties": False,
    }
    return {"description": ", ".join(codes), "content": {JSON: {"schema": schema}}}
