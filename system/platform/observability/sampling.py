"""Asks the OpenTelemetry SDK which traces to record and what to call this process (R7.18).

So OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG and OTEL_RESOURCE_ATTRIBUTES mean here what they
mean everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from system.platform.observability.tracing import Attribute, Decide


def sampler() -> Decide:
    """The sampler that the environment names; `parentbased_always_on` when it names none."""
    chosen: Sampler = TracerProvider(shutdown_on_exit=False).sampler

    def decide(trace_id: int, parent_id: int, recorded: bool, name: str) -> bool:
        context = Context()
        if parent_id:
            caller = SpanContext(
                trace_id, parent_id, is_remote=True, trace_flags=TraceFlags(int(recorded))
            )
            context = set_span_in_context(NonRecordingSpan(caller), context)
        return chosen.should_sample(context, trace_id, name).decision is Decision.RECORD_AND_SAMPLE

    if chosen is ALWAYS_ON:
        return lambda *_: True
    if chosen is DEFAULT_ON:
        # The usual case, without what asking costs: whoever begins a trace says.
        return lambda _, parent_id, recorded, __: recorded or not parent_id
    return decide


def resource(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The attributes with those of the SDK and of OTEL_RESOURCE_ATTRIBUTES; ours win."""
    merged = {
        name: value
        for name, value in Resource.create().attributes.items()
        if isinstance(value, str | int | bool)
    }
    return {**merged, **attributes}
