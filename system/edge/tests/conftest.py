"""The edges that the tests ask: one as it is, one with a short time-out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.edge.tests.stand_in import Edge, running_edge


@pytest.fixture(scope="session")
def edge_folder() -> Iterator[Path]:
    """A folder that other accounts can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-edge-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def edge(edge_folder: Path) -> Iterator[Edge]:
    """A started edge with a stand-in gateway."""
    folder = edge_folder / "usual"
    folder.mkdir()
    with running_edge(folder) as started:
        yield started


@pytest.fixture(scope="session")
def impatient_edge(edge_folder: Path) -> Iterator[Edge]:
    """An edge that waits one second for its upstream and two for slow clients."""
    folder = edge_folder / "impatient"
    folder.mkdir()

    def impatient(text: str) -> str:
        for was, now in (
            ("proxy_read_timeout 60s", "proxy_read_timeout 1s"),
            ("client_header_timeout 10s", "client_header_timeout 2s"),
            ("client_body_timeout 10s", "client_body_timeout 2s"),
        ):
            assert was in text
            text = text.replace(was, now)
        return text

    with running_edge(folder, impatient, api_docs=False) as started:
        yield started
