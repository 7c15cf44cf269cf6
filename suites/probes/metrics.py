"""Prometheus metrics of the services, read from their own ports."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.probe import CouldNotObserve


def read(url: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """All samples of a service's /metrics: sample name → (labels, value) pairs.

    Raises:
        CouldNotObserve: it cannot be read.
    """
    try:
        reply = httpx.get(f"{url}/metrics", timeout=10, trust_env=False)
        reply.raise_for_status()
        families = list(text_string_to_metric_families(reply.text))
    except (httpx.HTTPError, ValueError) as error:
        raise CouldNotObserve(f"{url}/metrics: {type(error).__name__}: {error}") from error
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return samples


def read_all(urls: Iterable[str]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """All samples of all members of a service together, as `read` gives them of one.

    Raises:
        CouldNotObserve: one of them cannot be read.
    """
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for url in urls:
        for name, series in read(url).items():
            samples.setdefault(name, []).extend(series)
    return samples


def total(
    samples: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str
) -> float:
    """The sum of a sample over all series with the given labels; 0.0 when there is none."""
    return sum(
        value
        for found, value in samples.get(name, [])
        if all(found.get(key) == wanted for key, wanted in labels.items())
    )
