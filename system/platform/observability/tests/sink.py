"""A receiver of spans and error reports on loopback, for tests."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Arrived:
    """One request to the sink."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Sink:
    """What has arrived so far.

    Attributes:
        status: what every request is answered with.
    """

    port: int = 0
    status: int = 200
    arrived: list[Arrived] = field(default_factory=list)

    @property
    def traces_url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def dsn(self) -> str:
        """For SENTRY_DSN."""
        return f"http://publickey@127.0.0.1:{self.port}/7"

    def spans(self) -> list[dict[str, Any]]:
        """All spans, flattened: name, ids, kind, error, attributes, those of the resource too."""
        found = []
        for request in list(self.arrived):
            if not request.path.startswith("/v1/traces"):
                continue
            message = ExportTraceServiceRequest()
            message.ParseFromString(request.body)
            for resource_spans in message.resource_spans:
                shared = _values(resource_spans.resource.attributes)
                for scope_spans in resource_spans.scope_spans:
                    found += [
                        {
                            "name": span.name,
                            "trace_id": span.trace_id.hex(),
                            "span_id": span.span_id.hex(),
                            "parent_id": span.parent_span_id.hex(),
                            "kind": span.kind,
                            "error": span.status.message if span.status.code == 2 else None,
                            "start": span.start_time_unix_nano,
                            "end": span.end_time_unix_nano,
                            "resource": shared,
                            "attributes": _values(span.attributes),
                        }
                        for span in scope_spans.spans
                    ]
        return found

    def reports(self, kind: str = "event") -> list[dict[str, Any]]:
        """All items of one kind in the envelopes that arrived: `event` or `transaction`."""
        found = []
        for request in list(self.arrived):
            if request.path.endswith("/envelope/"):
                found += [body for head, body in _items(request) if head["type"] == kind]
        return found

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something has arrived."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not seen in {seconds:g} s: {what}"
            time.sleep(0.02)


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def _items(request: Arrived) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    body = request.body
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    _, _, rest = body.partition(b"\n")
    while rest.strip():
        head_line, _, rest = rest.partition(b"\n")
        head = json.loads(head_line)
        length = head.get("length")
        if length is None:
            content, _, rest = rest.partition(b"\n")
        else:
            content, rest = rest[:length], rest[length:].removeprefix(b"\n")
        yield head, json.loads(content) if content.startswith(b"{") else {}


@contextmanager
def sink(status: int = 200) -> Iterator[Sink]:
    """Run a sink on a free port of loopback."""
    state = Sink(status=status)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server asks for
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.arrived.append(Arrived(self.path, headers, body, time.time()))
            self.send_response(state.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
