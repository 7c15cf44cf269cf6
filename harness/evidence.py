"""Evidence: what a probe saw, on disk before anybody judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.redaction import redact


class Evidence(Mapping[str, Any]):
    """One recorded observation, read back from its file.

    A check sees nothing but this, so any run can be judged again from its folder.

    Attributes:
        path: the JSON file; sample files lie beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._document: dict[str, Any] = msgspec.json.decode(path.read_bytes())

    def __getitem__(self, key: str) -> Any:
        return self._document[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def sibling(self, name: str) -> Path:
        """A file the probe wrote beside this one, such as whole samples (.npz)."""
        return self.path.parent / name


class EvidenceFolder:
    """The place of one criterion's evidence inside a run folder.

    Args:
        run_folder: the run's folder.
        criterion: the criterion's id.
    """

    def __init__(self, run_folder: Path, criterion: str) -> None:
        self._run_folder = run_folder
        self.path = run_folder / "evidence" / criterion
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, observation: Mapping[str, Any]) -> Evidence:
        """Write an observation, redacted and stamped with its time, and read it back."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {**redact(observation), "recorded": stamp}
        path = self.path / f"{name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
        return Evidence(path)

    def relative_files(self) -> tuple[str, ...]:
        """Every file written so far, relative to the run folder."""
        files = sorted(p for p in self.path.rglob("*") if p.is_file())
        return tuple(str(p.relative_to(self._run_folder)) for p in files)
