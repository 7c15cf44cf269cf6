"""`/graphql`: reads the request, judges the document, runs it, writes the answer (section 10)."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiohttp import web
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)
from graphql.execution.values import get_variable_values

from system.gateway.domain.routes import RouteTable
from system.gateway.entrypoints import answers
from system.gateway.entrypoints.call import Call
from system.gateway.entrypoints.graphql.limits import (
    CREDENTIAL_FIELDS,
    DOCUMENT_LIMIT,
    Gauge,
    TooMuch,
)
from system.gateway.entrypoints.graphql.schema import SCHEMA
from system.gateway.entrypoints.graphql.session import Session
from system.gateway.ports import Rest
from system.gateway.service.admission import AdmissionService
from system.platform.http import errors
from system.platform.http.errors import ApiError
from system.platform.http.requests import BODY_LIMIT, parse_object
from system.platform.http.text_fields import Text
from system.platform.http.validation import Schema, broken
from system.platform.observability import metrics

log = logging.getLogger(__name__)

PATH: Final = "/graphql"
EXAMPLE: Final = (
    "query { payments(input: { first: 5 }) "
    "{ edges { node { id amount currency status } } totalCount } }"
)
# Headers of the client that the services see; no cookie and no X-Token-Transport (R10.2).
_PASSED: Final = ("User-Agent", "X-Device-ID", "Cache-Control")
_REQUEST: Final = Schema(
    {
        "query": Text(clean=False),
        "operationName": Text(clean=False, optional=True, nullable=True),
    }
)
_SUGGESTION: Final = re.compile(r" ?Did you mean .*\?$", re.DOTALL)
# Each may print the whole document once.
_FAULTS_SHOWN: Final = 10
_CORE: Final = SCHEMA._schema  # strawberry has no public name for it

Handler = Callable[[Call], Awaitable[answers.Sent]]


class Refused(Exception):
    """The request is refused before anything runs.

    Attributes:
        errors: as the answer shows them.
    """

    def __init__(self, *shown: dict[str, Any]) -> None:
        super().__init__(shown)
        self.errors = shown


class GraphQLEntry:
    """The endpoint.

    Args:
        rest: calls the services.
        table: the public routes.
        admission: limits, tokens, roles.
        production: hides the schema (R10.7).
    """

    def __init__(
        self, rest: Rest, table: RouteTable, admission: AdmissionService, *, production: bool
    ) -> None:
        self._rest = rest
        self._table = table
        self._admission = admission
        self._production = production
        self._rules = [
            *specified_rules,
            *((NoSchemaIntrospectionCustomRule,) if production else ()),
        ]

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """The handlers by method and path."""
        return {("POST", PATH): self._execute, ("GET", PATH): self._inform}

    async def _inform(self, call: Call) -> answers.Sent:
        """R10.8: a GET runs nothing, whatever its query says."""
        information = {
            "success": True,
            "message": "This endpoint takes GraphQL operations by POST",
            "endpoint": PATH,
            "method": "POST",
            "headers": {
                "Content-Type": "application/json",
                "Authorization": "Bearer <access token>",
            },
            "exampleQuery": EXAMPLE,
        }
        return await _send(call, 200, information)

    async def _execute(self, call: Call) -> answers.Sent:
        body = await _body(call)
        try:
            query, variables, name = _read(call, body)
            document, operation = self.judge(query, variables, name)
        except Refused as refused:
            return await _send(call, 400, {"errors": refused.errors})
        gauge = Gauge(_CORE, document, variables)
        if CREDENTIAL_FIELDS & gauge.roots(operation).keys():
            wait = await self._admission.attempt(call.address)
            if wait is not None:
                metrics.RATE_LIMIT_REJECTIONS_TOTAL.labels("credential").inc()
                raise errors.rate_limit_exceeded(wait)
        session = Session(
            self._rest,
            self._table,
            self._admission,
            call.request.headers.getall("Authorization", ()),
            _lines(call),
        )
        try:
            result = await SCHEMA.execute(
                query,
                variable_values=dict(variables),
                context_value=session,
                operation_name=name,
            )
        finally:
            await session.close()
        found = result.errors or []
        for error in found:
            cause = error.original_error
            if isinstance(cause, ApiError) and cause.status == 429:
                # R10.6: a limiter's refusal looks as it does in REST.
                raise cause
        answer: dict[str, Any] = {}
        if found:
            answer["errors"] = [self._shown(error) for error in found]
        answer["data"] = result.data
        return await _send(call, 200, answer)

    def judge(
        self, query: str, variables: Mapping[str, Any], name: str | None
    ) -> tuple[DocumentNode, OperationDefinitionNode]:
        """Parse, measure and validate; nothing has run yet.

        Raises:
            Refused: with the codes of R10.5.
        """
        if len(query.encode("utf-8", "surrogatepass")) > DOCUMENT_LIMIT:
            raise _refused("QUERY_TOO_LARGE", f"The document is above {DOCUMENT_LIMIT} bytes")
        try:
            document = parse(query)
            Gauge(_CORE, document, variables).check()
        except GraphQLSyntaxError as error:
            raise Refused(self._faulty(error, "GRAPHQL_PARSE_FAILED")) from error
        except TooMuch as error:
            raise _refused(error.code, error.message) from error
        except RecursionError as error:
            raise _refused("QUERY_TOO_DEEP", "The document is nested too deeply") from error
        try:
            faults: Iterable[GraphQLError] = validate(
                _CORE, document, self._rules, max_errors=_FAULTS_SHOWN
            )
        except RecursionError as error:
            raise _refused("QUERY_TOO_DEEP", "The document is nested too deeply") from error
        self._refuse_faults(faults)
        operation = get_operation_ast(document, name)
        if operation is None:
            raise _refused(
                "GRAPHQL_VALIDATION_FAILED",
                "operationName must name one of the document's operations",
            )
        values = get_variable_values(
            _CORE, operation.variable_definitions or (), dict(variables), max_errors=_FAULTS_SHOWN
        )
        if isinstance(values, list):
            self._refuse_faults(values)
        return document, operation

    def _refuse_faults(self, faults: Iterable[GraphQLError]) -> None:
        shown = [self._faulty(fault, "GRAPHQL_VALIDATION_FAILED") for fault in faults]
        if shown:
            raise Refused(*shown)

    def _faulty(self, fault: GraphQLError, code: str) -> dict[str, Any]:
        message = fault.message
        if self._production:
            message = _SUGGESTION.sub("", message)
        written: dict[str, Any] = {
            "message": message,
            "extensions": {"code": code, "status": 400},
        }
        if fault.locations:
            written["locations"] = [
                {"line": place.line, "column": place.column} for place in fault.locations
            ]
        return written

    def _shown(self, error: GraphQLError) -> dict[str, Any]:
        """An execution error as the caller sees it (R10.4)."""
        cause = error.original_error
        if not isinstance(cause, ApiError):
            if cause is None:
                # graphql's own: an argument that could not be read.
                cause = ApiError(400, "VALIDATION_ERROR", _SUGGESTION.sub("", error.message))
            else:
                log.error("unexpected error in a resolver", exc_info=cause)
                cause = errors.internal_error()
        extensions: dict[str, Any] = {"code": cause.code, "status": cause.status}
        if cause.details is not None:
            extensions["details"] = cause.details
        return {"message": cause.message, "path": error.path, "extensions": extensions}


def _refused(code: str, message: str) -> Refused:
    return Refused({"message": message, "extensions": {"code": code, "status": 400}})


async def _send(call: Call, status: int, value: Any) -> answers.Sent:
    return await call.body(status, answers.json(value), (answers.JSON, answers.NO_STORE))


async def _body(call: Call) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413 (R1.10), 400 for broken framing.
    """
    request = call.request
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > BODY_LIMIT:
        raise errors.payload_too_large(BODY_LIMIT)
    if request.headers.get("Expect", "").lower() == "100-continue":
        answers.write(request, answers.CONTINUE)
    body = bytearray()
    try:
        while data := await request.content.readany():
            body += data
            if len(body) > BODY_LIMIT:
                raise errors.payload_too_large(BODY_LIMIT)
    except web.RequestPayloadError as error:
        call.keep_alive = False
        raise errors.bad_request("Request body is malformed") from error
    return bytes(body)


def _read(call: Call, body: bytes) -> tuple[str, Mapping[str, Any], str | None]:
    """Document, variables and operation of a request.

    Raises:
        Refused: there are none.
    """
    media_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        body = b""  # R10.8: another media type executes nothing
    if body.lstrip().startswith(b"["):
        raise _refused("BATCHING_DISABLED", "One operation per request, not an array")
    try:
        request = parse_object(body) if body else {}
        given = _REQUEST.parse(request)
        variables = request.get("variables")
        if variables is not None and not isinstance(variables, dict):
            raise broken("variables", "invalid_type", "Expected object")
    except ApiError as error:
        shown = {"code": error.code, "status": error.status}
        if error.details is not None:
            shown["details"] = error.details
        raise Refused({"message": error.message, "extensions": shown}) from error
    return given["query"], variables or {}, given.get("operationName") or None


def _lines(call: Call) -> list[bytes]:
    """The headers of every call to a service, correlation and trace apart (R1.52, R10.9)."""
    headers = call.request.headers
    scheme, host = call.forwarded()
    address = call.address.encode()
    lines = [
        b"Accept: application/json",
        b"X-Forwarded-For: " + address,
        b"X-Real-IP: " + address,
        b"X-Forwarded-Proto: " + scheme,
        b"X-Forwarded-Host: " + host,
    ]
    lines += (
        f"{name}: {headers[name]}".encode("utf-8", "surrogateescape")
        for name in _PASSED
        if name in headers
    )
    return lines
