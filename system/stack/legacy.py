"""The legacy database (R0.6, R9.1): a part that is started on demand beside a running platform."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from system.stack import acts, environment, postgres
from system.stack.credentials import Credentials
from system.stack.parts import LEGACY
from system.stack.state import MARKER, StateFolder

_MADE = "made"  # file that says that the database is there


def up(state: StateFolder) -> str:
    """Start it if it does not run; returns its URL.

    Raises:
        StackNotThere: the stack was not started.
        StackError: it did not get ready.
    """
    document = state.read()
    credentials = Credentials.from_document(document["credentials"])
    if document.get("kind") == "containers":
        from system.stack import containers

        containers.start_legacy(state)
        return environment.legacy_url(document["ports"], credentials)
    with state.held(alone=False) as lock, state.part_held(LEGACY):
        if (state.path / LEGACY / _MADE).exists():
            acts.start(state, LEGACY, lock)
        else:
            acts.end(state, LEGACY, quick=True)  # what a killed `up` may have left half made
            _forget(state)
            _make(state, document["ports"][LEGACY], credentials, lock)
    return environment.legacy_url(document["ports"], credentials)


def generate(state: StateFolder, rows: int) -> dict[str, int]:
    """Start it, empty it, and fill it with at least so many rows; returns rows by table."""
    from system.migration.adapters.progress import shown_on
    from system.migration.legacy import generator

    return generator.generate(up(state), rows, shown_on())


def down(state: StateFolder) -> bool:
    """End it and delete what it holds; returns whether it was there."""
    if state.read().get("kind") == "containers":
        from system.stack import containers

        return containers.remove_legacy(state)
    with state.held(alone=False), state.part_held(LEGACY):
        there = (state.path / LEGACY).exists()
        acts.end(state, LEGACY, quick=True)
        _forget(state)
    return there


def _make(state: StateFolder, port: int, credentials: Credentials, lock: int) -> None:
    marker = {MARKER: str(state.path)}
    try:
        with _scratch(state.path) as scratch:
            data, initial = postgres.template(
                state.project / ".seatrial" / "cache", scratch, marker
            )
            launch = postgres.prepare("legacy", port, state.path / LEGACY, data, marker)
        acts.spawn(state, launch, lock)
        acts.wait_until_ready(state, LEGACY, strict=False)
        postgres.make_legacy(port, initial, credentials.superusers["legacy"])
        (state.path / LEGACY / _MADE).touch()
    except BaseException:
        acts.end(state, LEGACY, quick=True)
        _forget(state)
        raise


@contextlib.contextmanager
def _scratch(inside: Path) -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter."""
    path = Path(tempfile.mkdtemp(prefix="legacy-", dir=inside))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _forget(state: StateFolder) -> None:
    data = state.path / LEGACY / "data"
    if (data / "postmaster.pid").exists():
        postgres.free_shared_memory(data)
    shutil.rmtree(state.path / LEGACY, ignore_errors=True)
    for name in (f"{LEGACY}.json", f"{LEGACY}.plain.json", f"{LEGACY}.pid"):
        (state.path / "run" / name).unlink(missing_ok=True)
