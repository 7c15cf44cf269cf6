"""The live engine: the rate comes line by line, finished samples go out line by line.

In: ``{"rate": 40.0}`` or ``{"stop": true}``; the end of the input stops it as well, so that an
engine never outlives who started it. Out, first ``{"groups": [...], "methods": [...]}`` (a method
per group), then ``{"samples": [[group, status, latency_ms, size, failure, request], ...]}`` ten
times a second; a latency is null where no answer came.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import msgspec

from loadtests.engine.generator import LoadGenerator
from loadtests.engine.plan import Plan
from loadtests.engine.samples import Measurement

_PAUSE = 0.1
_PATIENCE = 10.0


class Command(msgspec.Struct, frozen=True):
    """One line of the input."""

    rate: float = 0.0
    stop: bool = False


async def run_live(plan: Plan) -> Measurement:
    """Carry out a plan at the rates that the standard input gives; return all samples."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    # A transport, not print: a reader that dawdles must not stop the generator.
    output, written = await loop.connect_write_pipe(_Written, sys.stdout)
    finished: list[int] = []
    generator = LoadGenerator(plan, finished.append)
    rates: asyncio.Queue[float | None] = asyncio.Queue()
    methods = {request.group: request.method for request in reversed(plan.requests)}
    _put(output, {"groups": plan.groups, "methods": [methods[group] for group in plan.groups]})
    listener = asyncio.create_task(_listen(reader, rates))
    reporter = asyncio.create_task(_report(generator, finished, output))
    try:
        measurement = await generator.run_live(rates)
    finally:
        listener.cancel()
        reporter.cancel()
        await asyncio.wait((listener, reporter))
    _flush(generator, finished, output)
    output.close()
    with contextlib.suppress(TimeoutError):  # a reader that is gone must not hold the samples up
        await asyncio.wait_for(written.done.wait(), _PATIENCE)
    return measurement


class _Written(asyncio.Protocol):
    """Knows when everything has been written after the closing."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set()


async def _listen(reader: asyncio.StreamReader, rates: asyncio.Queue[float | None]) -> None:
    async for line in reader:
        command = msgspec.json.decode(line, type=Command)
        if command.stop:
            break
        rates.put_nowait(max(0.0, command.rate))
    rates.put_nowait(None)


async def _report(
    generator: LoadGenerator, finished: list[int], output: asyncio.WriteTransport
) -> None:
    while True:
        await asyncio.sleep(_PAUSE)
        _flush(generator, finished, output)


def _flush(generator: LoadGenerator, finished: list[int], output: asyncio.WriteTransport) -> None:
    if not finished:
        return
    recorder, groups = generator.recorder, generator.groups_of_requests
    rows: list[list[Any]] = []
    for sample in finished:
        latency = (recorder.done[sample] - recorder.due[sample]) * 1e3
        request = recorder.request[sample]
        rows.append(
            [
                groups[request],
                recorder.status[sample],
                round(latency, 3) if latency == latency else None,
                recorder.size[sample],
                recorder.failure[sample],
                request,
            ]
        )
    finished.clear()
    _put(output, {"samples": rows})


def _put(output: asyncio.WriteTransport, document: object) -> None:
    output.write(msgspec.json.encode(document) + b"\n")
