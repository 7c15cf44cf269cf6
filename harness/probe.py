"""What probes have in common: an attempt that failed is a fact with a reason, not a crash."""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import httpx

from harness import addresses

T = TypeVar("T")


class CouldNotObserve(Exception):
    """The probe did not reach its subject; the text says what stood in the way."""


class Exchange(dict[str, Any]):
    """One request and its reply, or why there was none; JSON-able as it is.

    Keys: ``request`` {method, url, headers, body}, ``status`` (0 when there was no reply),
    ``headers`` (list of pairs, names lower-case, order and repetition kept), ``body`` (text, cut
    at 4,096 characters), ``json`` (parsed, None when it is not JSON), ``seconds``, ``error``.
    """

    @property
    def status(self) -> int:
        """The status code; 0 when no reply came."""
        return int(self["status"])

    @property
    def code(self) -> str:
        """``error.code`` of the contract's envelope; empty when there is none."""
        return error_code(self)


def error_code(exchange: Mapping[str, Any]) -> str:
    """``error.code`` of a recorded exchange's envelope; empty when there is none."""
    body = exchange.get("json")
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return str(body["error"].get("code", ""))
    return ""


def header_values(exchange: Mapping[str, Any], name: str) -> list[str]:
    """Every value of a header of a recorded exchange, in order."""
    return [value for key, value in exchange["headers"] if key == name.lower()]


@functools.cache
def tls_context(ca: str) -> ssl.SSLContext:
    """A verifying client context that trusts the given CA file only (system CAs when empty)."""
    return ssl.create_default_context(cafile=ca or None)


def http_client(
    base_url: str, *, ca: str = "", address: str | None = None, timeout: float = 10.0
) -> httpx.Client:
    """A synchronous HTTP/1.1 client from a source address; follows no redirect.

    Args:
        base_url: scheme, host and port.
        ca: CA file for https.
        address: source address that limits and audits see, bound or by relay.
        timeout: seconds for connect, read and write each.
    """
    # Building a context costs tens of milliseconds, which a probe would count as the target's.
    verify: ssl.SSLContext | bool = tls_context(ca) if base_url.startswith("https") else False
    transport = addresses.Transport(
        verify=verify,
        address=address,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
    )
    return httpx.Client(
        base_url=base_url,
        transport=transport,
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    )


def exchange(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    content: bytes | Iterable[bytes] | None = None,
    body_limit: int = 4096,
) -> Exchange:
    """Send one request and write down what came back; a transport error is written down too."""
    started = time.perf_counter()
    recorded: dict[str, Any] = {
        "request": {
            "method": method,
            "url": str(url),
            "headers": dict(headers or {}),
            "body": json if json is not None else _described(content),
        },
        "status": 0,
        "headers": [],
        "body": "",
        "json": None,
        "error": "",
    }
    try:
        reply = client.request(method, url, headers=headers, json=json, content=content)
    except (httpx.HTTPError, OSError) as error:
        recorded["error"] = f"{type(error).__name__}: {error}"
    else:
        recorded["status"] = reply.status_code
        recorded["headers"] = [
            [name.decode("latin-1").lower(), value.decode("latin-1")]
            for name, value in reply.headers.raw
        ]
        recorded["body"] = reply.text[:body_limit]
        if "json" in reply.headers.get("content-type", ""):
            with contextlib.suppress(ValueError):
                recorded["json"] = reply.json()
    recorded["seconds"] = round(time.perf_counter() - started, 6)
    return Exchange(recorded)


def _described(content: bytes | Iterable[bytes] | None) -> str | None:
    if content is None:
        return None
    return f"{len(content)} bytes" if isinstance(content, bytes) else "in pieces, chunked"


def wait_until(
    condition: Callable[[], T | None], *, seconds: float, what: str, pause: float = 0.05
) -> T:
    """Ask again until the condition gives something truthy, and return that.

    Raises:
        CouldNotObserve: it did not within the given seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise CouldNotObserve(f"waited {seconds:g} s for {what}; it did not happen")
        time.sleep(pause)


class Refusal(StrEnum):
    """How an answer to a forbidden request is to be read."""

    REFUSED = "refused"
    NOT_REFUSED = "not refused"
    CANNOT_TELL = "cannot tell"


def read_refusal(exchange: Mapping[str, Any], status: int, codes: tuple[str, ...]) -> Refusal:
    """Read an answer that ought to be a refusal (rule 3 of the criteria).

    Refused is the contracted status *and* code. 429, 5xx, no answer are no refusal: they cannot
    tell. Anything else was let in, or refused in the wrong words: a finding either way.
    """
    seen = int(exchange["status"])
    if seen == status and (not codes or error_code(exchange) in codes):
        return Refusal.REFUSED
    if seen == 0 or seen >= 500 or (seen == 429 and status != 429):
        return Refusal.CANNOT_TELL
    return Refusal.NOT_REFUSED
