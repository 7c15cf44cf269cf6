"""Reads which metrics and labels a PromQL query uses; enough of the grammar for ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?")
_BY = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_WORDS = frozenset(
    {
        *("sum", "rate", "histogram_quantile", "topk", "min_over_time", "max", "min", "avg", "by"),
        *("or", "vector"),
    }
)
# Prometheus adds these to everything it scrapes.
ADDED = frozenset({"job", "instance"})


def used(query: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric of the query with the labels that it must have.

    >>> sorted(used('sum by (job, le) (rate(a_bucket{x="1"}[5m])) / b'))
    [('a_bucket', frozenset({'x', 'job', 'le'})), ('b', frozenset({'job', 'le'}))]
    """
    grouped = frozenset(
        label.strip()
        for found in _BY.finditer(query)
        for label in found[1].split(",")
        if label.strip()
    )
    plain = _RANGE.sub("", _BY.sub("", query))
    for found in _SELECTOR.finditer(_STRING.sub('""', plain)):
        name = found[1]
        if name in _WORDS:
            continue
        chosen = frozenset(re.findall(r"([a-zA-Z_]\w*)\s*[!=~]+", found[2] or ""))
        yield name, chosen | grouped
