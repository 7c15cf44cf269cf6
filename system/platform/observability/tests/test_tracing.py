"""Tests of spans, their wire format, their export (R7.18); the collector is a sink on loopback."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from system.platform.config.settings import Settings
from system.platform.observability import bench, otlp, sampling, trace_export, tracing
from system.platform.observability.trace_export import QUEUE_SPANS, HttpSender, TraceExport
from system.platform.observability.tracing import Kind, Span

from .sink import Sink

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture
def finished() -> Iterator[list[Span]]:
    """Tracing on, every trace recorded; the list gets what is finished."""
    spans: list[Span] = []
    tracing.turn_on(spans.append, lambda *_: True)
    try:
        yield spans
    finally:
        tracing.turn_off()


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE}-{CALLER}-01", (TRACE, CALLER, True)),
        (f"00-{TRACE}-{CALLER}-00", (TRACE, CALLER, False)),
        (f"00-{TRACE}-{CALLER}-03", (TRACE, CALLER, True)),
        (f"01-{TRACE}-{CALLER}-01-more", (TRACE, CALLER, True)),
        (f"00-{TRACE}-{CALLER}-01-more", None),
        (f"01-{TRACE}-{CALLER}-01more", None),
        (f"ff-{TRACE}-{CALLER}-01", None),
        (f"00-{TRACE.upper()}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{CALLER}", None),
        ("", None),
        (None, None),
        ("x" * 10_000, None),
    ],
)
def test_r7_18_a_traceparent_is_read_as_w3c_writes_it(
    traceparent: str | None, expected: tuple[str, str, bool] | None
) -> None:
    """R7.18: good ones are continued, all others begin a trace."""
    assert tracing.read(traceparent) == expected


def test_r7_18_an_incoming_trace_is_continued(finished: list[Span]) -> None:
    """R7.18: the first span has the caller as its parent, the next one has the first."""
    span = tracing.enter("GET", Kind.SERVER, f"00-{TRACE}-{CALLER}-01", "c-1")
    assert span is not None
    token = tracing.make_current(span)
    with tracing.within(tracing.child("select users", Kind.CLIENT)):
        pass
    tracing.leave(token)
    tracing.answered(span, "GET", "/users/:id", 200, "r-1")

    below, first = finished
    assert (first.trace_id, first.parent_id) == (TRACE, CALLER)
    assert (below.trace_id, below.parent_id) == (TRACE, first.span_id)
    assert first.traceparent == f"00-{TRACE}-{first.span_id}-01"
    assert first.name == "GET /users/:id"
    assert below.correlation_id == first.correlation_id == "c-1"
    assert tracing.current() is None


def test_r7_18_nothing_is_recorded_while_it_is_off() -> None:
    """R7.18: OTEL_ENABLED=false turns it off; nothing is begun anywhere."""
    assert tracing.enter("GET", Kind.SERVER, None, "c-1") is None
    assert tracing.follow("publish", Kind.PRODUCER, f"00-{TRACE}-{CALLER}-01", "c-1") is None
    assert tracing.child("select users", Kind.CLIENT) is None


def test_r7_18_what_is_not_sampled_is_not_recorded_but_travels_on() -> None:
    """R7.18: OTEL_TRACES_SAMPLER; the receiver hears that nobody records this trace."""
    spans: list[Span] = []
    tracing.turn_on(spans.append, lambda *_: False)
    try:
        span = tracing.enter("GET", Kind.SERVER, None, "c-1")
        assert span is not None
        token = tracing.make_current(span)
        assert tracing.child("select users", Kind.CLIENT) is None
        tracing.leave(token)
        span.end()
        assert span.traceparent.endswith("-00")
        assert tracing.follow("publish", Kind.PRODUCER, span.traceparent, "c-1") is None
    finally:
        tracing.turn_off()

    assert spans == []


def test_r7_18_a_failure_is_shown_by_its_kind_only(finished: list[Span]) -> None:
    """R7.20: texts of errors hold values of users, so a span has the type alone."""
    span = tracing.enter("GET", Kind.SERVER, None, "c-1")
    with pytest.raises(ValueError, match="secret"), tracing.within(span):
        raise ValueError("secret")

    assert [each.error for each in finished] == ["ValueError"]


@pytest.mark.parametrize(
    ("environment", "caller", "expected"),
    [
        ({}, None, True),
        ({}, True, True),
        ({}, False, False),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, True, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, False, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, None, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, True, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, True, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, False, True),
    ],
)
def test_r7_18_the_sampler_is_the_one_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    caller: bool | None,
    expected: bool,
) -> None:
    """R7.18: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG are honoured."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    decide = sampling.sampler()

    parent = 0 if caller is None else int(CALLER, 16)
    assert decide(int(TRACE, 16), parent, bool(caller), "GET") is expected


def test_r7_18_a_ratio_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """R7.18: one trace in four with 0.25, the same ones in every process."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    decide = sampling.sampler()

    # The SDK judges by the lower 64 bits.
    taken = [decide(number << 54, 0, False, "GET") for number in range(1, 1025)]

    assert taken.count(True) == pytest.approx(256, abs=2)


def test_r7_18_the_wire_format_is_otlp(finished: list[Span]) -> None:
    """R7.18: the official classes read what is written, field by field."""
    span = tracing.enter("GET", Kind.SERVER, f"00-{TRACE}-{CALLER}-01", "c-ü")
    assert span is not None
    span.attributes = {"yes": True, "no": False, "one": 1, "negative": -5, "text": "é" * 200}
    span.end(KeyError("x"))

    message = ExportTraceServiceRequest()
    message.ParseFromString(otlp.request(otlp.resource({"service.name": "s"}), finished))

    (resource_spans,) = message.resource_spans
    assert resource_spans.resource.attributes[0].value.string_value == "s"
    (read,) = resource_spans.scope_spans[0].spans
    assert read.trace_id.hex() == TRACE
    assert read.span_id.hex() == span.span_id
    assert read.parent_span_id.hex() == CALLER
    assert (read.name, read.kind) == ("GET", 2)
    assert (read.start_time_unix_nano, read.end_time_unix_nano) == (span.start_ns, span.end_ns)
    assert (read.status.code, read.status.message) == (2, "KeyError")
    assert read.flags & 1
    values = {pair.key: pair.value for pair in read.attributes}
    assert values["correlation_id"].string_value == "c-ü"
    assert (values["yes"].bool_value, values["yes"].WhichOneof("value")) == (True, "bool_value")
    assert (values["no"].bool_value, values["no"].WhichOneof("value")) == (False, "bool_value")
    assert (values["one"].int_value, values["one"].WhichOneof("value")) == (1, "int_value")
    assert values["negative"].int_value == -5
    assert values["text"].string_value == "é" * 200


def _spans(count: int) -> list[Span]:
    made = [
        Span(TRACE, "", f"work {number}", Kind.INTERNAL, "c", sampled=True)
        for number in range(count)
    ]
    for span in made:
        span.end_ns = span.start_ns
    return made


def test_r7_18_spans_reach_the_collector_with_the_process_named(
    receiver: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7.18: OTLP over HTTP; service.name, service.version, deployment.environment."""
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    settings = Settings(
        service="auth",
        service_name="auth-service",
        node_env="production",
        otel_exporter_otlp_endpoint=receiver.traces_url,
    )
    trace_export.start(settings)
    try:
        span = tracing.enter("GET", Kind.SERVER, None, "c-1")
        assert span is not None
        tracing.answered(span, "GET", "/x", 204, "r-1")
    finally:
        trace_export.stop()

    (arrived,) = receiver.spans()
    assert arrived["resource"]["service.name"] == "auth-service"
    assert arrived["resource"]["service.version"] == settings.version
    assert arrived["resource"]["deployment.environment"] == "production"
    assert arrived["attributes"] == {
        "correlation_id": "c-1",
        "http.request.method": "GET",
        "http.route": "/x",
        "http.response.status_code": 204,
        "http.request_id": "r-1",
    }
    assert receiver.arrived[0].headers["content-type"] == "application/x-protobuf"
    assert not tracing.is_on()


def test_r7_18_nothing_starts_when_it_is_turned_off(receiver: Sink) -> None:
    """R7.18: OTEL_ENABLED=false."""
    trace_export.start(
        Settings(
            service="auth",
            service_name="auth-service",
            otel_enabled=False,
            otel_exporter_otlp_endpoint=receiver.traces_url,
        )
    )

    assert not tracing.is_on()


class NoCollector:
    """A `Sender` whose collector is away until told otherwise."""

    def __init__(self) -> None:
        self.back = False
        self.bodies: list[bytes] = []

    def send(self, body: bytes) -> None:
        if not self.back:
            raise ConnectionRefusedError("nobody listens")
        self.bodies.append(body)

    def close(self) -> None:
        """Nothing to give up."""


def test_r7_18_without_a_collector_memory_is_bounded_and_the_log_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R7.18: the queue has its limit, the newest stay, and the log gets a line a minute."""
    now = 0.0
    collector = NoCollector()
    export = TraceExport(collector, {}, clock=lambda: now)
    made = _spans(QUEUE_SPANS + 500)
    with caplog.at_level(logging.WARNING):
        for number, span in enumerate(made):
            export.add(span)
            if number % 100 == 0:
                assert not export.send_waiting()
            assert export.waiting <= QUEUE_SPANS
        assert len(caplog.records) == 1
        now = 59.0
        assert not export.send_waiting()
        assert len(caplog.records) == 1
        now = 61.0
        assert not export.send_waiting()
    assert len(caplog.records) == 2
    assert "500 dropped" in caplog.records[1].getMessage()

    collector.back = True
    assert export.send_waiting()
    sent = []
    for body in collector.bodies:
        message = ExportTraceServiceRequest()
        message.ParseFromString(body)
        sent += [span.name for span in message.resource_spans[0].scope_spans[0].spans]
    assert sent == [span.name for span in made[500:]]
    assert export.waiting == 0


def test_r7_18_what_the_collector_refuses_is_not_sent_again(
    receiver: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """R7.18: a collector that answers 500 costs the batch, not the process."""
    receiver.status = 500
    sender = HttpSender(receiver.traces_url)
    export = TraceExport(sender, {})
    export.add(_spans(1)[0])
    with caplog.at_level(logging.WARNING):
        assert not export.send_waiting()
        assert export.send_waiting()
    sender.close()

    assert len(receiver.arrived) == 1
    assert "answered 500" in caplog.text


def test_a_connection_that_the_collector_closed_is_opened_again(receiver: Sink) -> None:
    """A kept connection that ended while idle costs nothing."""
    sender = HttpSender(receiver.traces_url)
    sender.send(b"")
    connection = sender._connection
    assert isinstance(connection, http.client.HTTPConnection)
    assert connection.sock is not None
    connection.sock.shutdown(2)

    sender.send(b"")

    assert len(receiver.arrived) == 2
    sender.close()


async def test_r7_18_tracing_that_is_off_or_unsampled_costs_little() -> None:
    """R7.18: the benchmark runs, and its order is as it must be.

    The figures themselves depend on the machine and are quoted with its load.
    """
    best = await bench.measure(rounds=3, requests=300)

    assert best["off"] < best["on"]
    assert best["unsampled"] < best["on"]
