"""Handlers are called as Litestar would call them, without what they do not use."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.routes import HTTPRoute

from system.platform.config.settings import Settings
from system.platform.http.app import create_app
from system.platform.http.replies import Reply, success
from system.platform.security.litestar import internal_only

TOKEN = "internal-token-of-the-tests"


@get("/things/{id:str}")
async def show(request: Request[Any, Any, Any]) -> Reply:
    """Take a request."""
    return success(request.path_params)


@get("/nothing")
async def nothing() -> Reply:
    """Take nothing."""
    return success(1)


@get("/typed/{number:int}")
async def typed(number: FromPath[int]) -> Reply:
    """Take what only Litestar reads."""
    return success(number + 1)


async def first(_: Request[Any, Any, Any]) -> Reply:
    """Answer in the place of a handler."""
    return success("hook")


@get("/hooked", before_request=first)
async def hooked() -> Reply:
    """Leave something to Litestar's hooks."""
    return success("handler")


@post("/guarded", guards=[internal_only(TOKEN)])
async def guarded(request: Request[Any, Any, Any]) -> Reply:
    """Only for callers with the internal token."""
    return success(request.method, 201)


Answer = tuple[int, Any]
app = create_app(
    Settings(service="bench", service_name="bench", internal_service_token=TOKEN),
    [show, nothing, typed, hooked, guarded],
    checks={},
    essential=(),
)


async def ask(
    path: str, method: str = "GET", host: bytes = b"localhost:3001", **headers: str
) -> Answer:
    """Send a request; status and data, or the code of the error."""
    sent: list[Any] = []
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", host),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]  # a plain dict is a scope
    body = b"".join(message.get("body", b"") for message in sent[1:])
    if not body:
        return sent[0]["status"], None
    answer = msgspec.json.decode(body)
    return sent[0]["status"], answer["data"] if answer["success"] else answer["error"]["code"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/things/7", (200, {"id": "7"})),
        ("/things/7/", (200, {"id": "7"})),
        ("//things//7", (200, {"id": "7"})),
        ("/nothing", (200, 1)),
        ("/typed/4", (200, 5)),
        ("/hooked", (200, "hook")),
        ("/typed/x", (404, "NOT_FOUND")),
        ("/things", (404, "NOT_FOUND")),
    ],
)
async def test_routes_are_found_as_by_litestar(path: str, expected: Answer) -> None:
    """Parameters, slashes and what is not there are Litestar's to judge."""
    assert await ask(path) == expected


async def test_handlers_are_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual handlers do without Litestar's own way of calling; the others need it."""

    async def handle(*_: Any, **__: Any) -> None:
        raise AssertionError("called through Litestar")

    monkeypatch.setattr(HTTPRoute, "_call_handler_function", handle)

    assert await ask("/things/7") == (200, {"id": "7"})
    assert await ask("/nothing") == (200, 1)
    assert await ask("/guarded", "POST", x_internal_token=TOKEN) == (201, "POST")
    assert await ask("/typed/4") == (500, "INTERNAL_ERROR")


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_guards_stand_before_their_handlers(token: str) -> None:
    """R1.153: nobody comes past a guard."""
    assert await ask("/guarded", "POST", x_internal_token=token) == (401, "UNAUTHORIZED")
    assert await ask("/guarded", "POST") == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("host", [b"a b", b"a/b", b'"x"', b"a\xff"])
async def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    """Litestar judges every host that is not an ordinary one."""
    assert await ask("/nothing", host=host) == (400, "BAD_REQUEST")


async def test_other_methods_are_no_routes() -> None:
    """R1.11: a route knows its own methods, and answers OPTIONS."""
    assert await ask("/nothing", "POST") == (404, "NOT_FOUND")
    assert await ask("/nothing", "OPTIONS") == (204, None)
