"""Fixtures of the observability tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .sink import Sink, sink


@pytest.fixture
def receiver() -> Iterator[Sink]:
    """A sink that takes everything."""
    with sink() as running:
        yield running
