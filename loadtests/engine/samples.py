"""Samples: whole, one per request of the schedule, in memory and as files."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray


class Failure(IntEnum):
    """Why a sample is not a success."""

    NONE = 0
    NOT_SENT = 1  # no connection became free before its time was over
    CONNECT = 2  # TCP or TLS could not be set up
    BROKEN = 3  # the connection ended before the answer did
    TIMEOUT = 4
    PROTOCOL = 5  # the answer is not HTTP/1.1
    STATUS = 6
    BODY = 7  # the expected text is not in the body


_NAN = float("nan")
_BLOCK = 4096


class Recorder:
    """Samples while they are being made; times are seconds since the schedule's start.

    Attributes:
        count: samples so far; the arrays have room for more.
    """

    def __init__(self) -> None:
        self.count = 0
        self.due = array("d")
        self.sent = array("d")
        self.first_byte = array("d")
        self.done = array("d")
        self.request = array("i")
        self.status = array("h")
        self.failure = array("b")
        self.size = array("q")
        self.watched = array("b")
        self.watched_values: list[str] = []

    def add(self, due: float, request: int) -> int:
        """Begin one sample and return its number."""
        sample = self.count
        if sample >= len(self.due):
            self._make_room()
        self.count += 1
        self.due[sample] = due
        self.request[sample] = request
        return sample

    def _make_room(self) -> None:
        # In blocks, as nine appends a sample cost more than sending a request.
        columns: tuple[tuple[array[Any], float], ...] = (
            (self.due, _NAN),
            (self.sent, _NAN),
            (self.first_byte, _NAN),
            (self.done, _NAN),
            (self.request, 0),
            (self.status, 0),
            (self.failure, Failure.NOT_SENT),
            (self.size, 0),
            (self.watched, -1),
        )
        for column, empty in columns:
            column.extend(array(column.typecode, [empty]) * _BLOCK)

    def watch(self, sample: int, value: str) -> None:
        """Keep the value of the watched header; at most 127 different ones are told apart."""
        values = self.watched_values
        if value not in values:
            if len(values) >= 127:
                return
            values.append(value)
        self.watched[sample] = values.index(value)


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """How the generator itself fared; a tired generator measures itself.

    Attributes:
        cpu_share: CPU seconds per second over the run.
        cpu_share_worst: the same, of its worst second.
        lateness_ms: quantiles (p50, p95, p99, max) of how late requests were handed to a
            connection or the waiting line after their due time, in ms.
        lag_ms: quantiles of the event loop's lag, in ms.
        connections: connections opened in all.
        connections_at_once: most connections open at one time.
        resent: requests sent again because an idle connection had been closed meanwhile.
        cpu_seconds: CPU seconds of the measured time.
    """

    cpu_share: float
    cpu_share_worst: float
    lateness_ms: dict[str, float]
    lag_ms: dict[str, float]
    connections: int
    connections_at_once: int
    resent: int
    cpu_seconds: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside the samples.

    Attributes:
        groups: the groups' names; the sample's group is an index into them.
        rate: scheduled requests a second.
        seconds: length of the schedule.
        started: ISO time of the schedule's start.
        arrivals: constant or poisson.
        origin: where it was sent.
        watch_header: the watched header's name, or empty.
        watched: its values; the sample's ``watched`` is an index into them, -1 if absent.
        generator: how the generator fared.
        failures: how many samples failed, by reason.
    """

    groups: tuple[str, ...]
    rate: float
    seconds: float
    started: str
    generator: Generator
    arrivals: str = "constant"
    origin: str = ""
    watch_header: str = ""
    watched: tuple[str, ...] = ()
    failures: dict[str, int] = {}


class Measurement:
    """The samples of one measurement, in the order of their due times.

    Attributes:
        path: the .npz file; None when it was not read from one.
        summary: what the engine says about it.
        due, sent, first_byte, done: seconds since the schedule's start; nan if it never was.
        status: HTTP status, 0 if no answer came.
        group: index into ``summary.groups``.
        ok: complete, with an expected status and the expected text.
        failure: a `Failure` each.
        size: bytes of the answer's body.
        request: index into the plan's requests.
        watched: index into ``summary.watched``, -1 if the header was absent.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], summary: Summary, path: Path | None = None
    ) -> None:
        self.path = path
        self.summary = summary
        self.due: NDArray[np.float64] = arrays["due"]
        self.sent: NDArray[np.float64] = arrays["sent"]
        self.first_byte: NDArray[np.float64] = arrays["first_byte"]
        self.done: NDArray[np.float64] = arrays["done"]
        self.status: NDArray[np.int16] = arrays["status"]
        self.group: NDArray[np.int16] = arrays["group"]
        self.ok: NDArray[np.bool_] = arrays["ok"]
        self.failure: NDArray[np.int8] = arrays["failure"]
        self.size: NDArray[np.int64] = arrays["size"]
        self.request: NDArray[np.int32] = arrays["request"]
        self.watched: NDArray[np.int8] = arrays["watched"]

    def __len__(self) -> int:
        return len(self.due)

    def of_group(self, group: str | None) -> NDArray[np.bool_]:
        """Which samples belong to a group; None means all."""
        if group is None:
            return np.ones(len(self), dtype=np.bool_)
        mask: NDArray[np.bool_] = self.group == self.summary.groups.index(group)
        return mask

    def latency(self, group: str | None = None) -> NDArray[np.float64]:
        """Seconds from due to complete, of the successes."""
        chosen = self.of_group(group) & self.ok
        return self.done[chosen] - self.due[chosen]

    def naive_latency(self, group: str | None = None) -> NDArray[np.float64]:
        """Seconds from sent to complete, of the successes: what a closed-model tool reports."""
        chosen = self.of_group(group) & self.ok
        return self.done[chosen] - self.sent[chosen]

    def due_of(self, group: str | None = None) -> NDArray[np.float64]:
        """Due times of the successes, in the order of `latency`."""
        return self.due[self.of_group(group) & self.ok]

    def delivered(self, group: str | None = None) -> float:
        """Share of the scheduled requests that got a complete answer, whatever it said."""
        chosen = self.of_group(group)
        return float(np.mean(~np.isnan(self.done[chosen]))) if chosen.any() else 0.0

    def errors(self, group: str | None = None) -> int:
        """How many scheduled requests were no success."""
        return int(np.count_nonzero(~self.ok & self.of_group(group)))

    def watched_counts(self, group: str | None = None) -> dict[str, int]:
        """Successes per value of the watched header; the empty name counts those without it."""
        chosen = self.watched[self.of_group(group) & self.ok]
        counts = {value: int(np.sum(chosen == i)) for i, value in enumerate(self.summary.watched)}
        absent = int(np.sum(chosen < 0))
        return {**counts, "": absent} if absent else counts

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays under their names, as in the file."""
        return {name: getattr(self, name) for name in ARRAYS}


ARRAYS = (
    "due",
    "sent",
    "first_byte",
    "done",
    "status",
    "group",
    "ok",
    "failure",
    "size",
    "request",
    "watched",
)


def arrays_of(recorder: Recorder, groups_of_requests: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The recorded samples as arrays."""
    count = recorder.count
    request = np.array(recorder.request[:count], dtype=np.int32)
    failure = np.array(recorder.failure[:count], dtype=np.int8)
    return {
        "due": np.array(recorder.due[:count], dtype=np.float64),
        "sent": np.array(recorder.sent[:count], dtype=np.float64),
        "first_byte": np.array(recorder.first_byte[:count], dtype=np.float64),
        "done": np.array(recorder.done[:count], dtype=np.float64),
        "status": np.array(recorder.status[:count], dtype=np.int16),
        "group": np.array(groups_of_requests, dtype=np.int16)[request],
        "ok": failure == Failure.NONE,
        "failure": failure,
        "size": np.array(recorder.size[:count], dtype=np.int64),
        "request": request,
        "watched": np.array(recorder.watched[:count], dtype=np.int8),
    }


def count_failures(failure: NDArray[np.int8]) -> dict[str, int]:
    """How many samples failed, by the reason's name in lower case."""
    counts = {kind.name.lower(): int(np.sum(failure == kind)) for kind in Failure if kind}
    return {name: count for name, count in counts.items() if count}


def write(measurement: Measurement, out: Path) -> None:
    """Write ``<out>.npz`` and ``<out>.json``; the JSON last, as it says that both are complete."""
    with out.with_name(out.name + ".npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **measurement.arrays())
    document = msgspec.json.encode(measurement.summary)
    out.with_name(out.name + ".json").write_bytes(msgspec.json.format(document, indent=1))


def read(out: Path) -> Measurement:
    """Read what `write` wrote under the same name (without suffix)."""
    npz = out.with_name(out.name + ".npz")
    summary = msgspec.json.decode(out.with_name(out.name + ".json").read_bytes(), type=Summary)
    with np.load(npz, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ARRAYS}
    return Measurement(arrays, summary, npz)


def join(parts: Sequence[Measurement]) -> Measurement:
    """Several measurements of one plan as one, laid end to end in time.

    Args:
        parts: at least one; all with the same groups.
    """
    first = parts[0].summary
    offset, shifted = 0.0, []
    for part in parts:
        arrays = part.arrays()
        for name in ("due", "sent", "first_byte", "done"):
            arrays[name] = arrays[name] + offset
        offset += part.summary.seconds
        shifted.append(arrays)
    arrays = {name: np.concatenate([piece[name] for piece in shifted]) for name in ARRAYS}
    watched = tuple(dict.fromkeys(value for part in parts for value in part.summary.watched))
    arrays["watched"] = np.concatenate(
        [_renumbered(part.watched, part.summary.watched, watched) for part in parts]
    )
    summary = msgspec.structs.replace(
        first,
        seconds=offset,
        watched=watched,
        generator=_worst_of([part.summary.generator for part in parts]),
        failures=count_failures(arrays["failure"]),
    )
    return Measurement(arrays, summary)


def _worst_of(generators: Sequence[Generator]) -> Generator:
    """One generator as bad as the worst of these in every respect; what is counted is summed."""

    def worst(quantiles: Sequence[dict[str, float]]) -> dict[str, float]:
        return {name: max(q[name] for q in quantiles) for name in quantiles[0]}

    return Generator(
        cpu_share=max(g.cpu_share for g in generators),
        cpu_share_worst=max(g.cpu_share_worst for g in generators),
        lateness_ms=worst([g.lateness_ms for g in generators]),
        lag_ms=worst([g.lag_ms for g in generators]),
        connections=sum(g.connections for g in generators),
        connections_at_once=max(g.connections_at_once for g in generators),
        resent=sum(g.resent for g in generators),
        cpu_seconds=sum(g.cpu_seconds for g in generators),
    )


def _renumbered(
    codes: NDArray[np.int8], old: Sequence[str], new: Sequence[str]
) -> NDArray[np.int8]:
    table = np.array([*(new.index(value) for value in old), -1], dtype=np.int8)
    return table[codes]  # -1 (absent) picks the last entry, which is -1
