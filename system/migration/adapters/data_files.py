"""Data files: `<folder>/<service>-data.json` (R9.2, R9.6), written and read row by row.

Each row is one line in canonical form, so that a row's checksum is the SHA-256 of its line
without the comma.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from system.migration.adapters.json_stream import JsonStream, NotJson
from system.migration.adapters.ledger import Ledger
from system.migration.domain.canonical import canonical, checksum
from system.migration.domain.entities import FILES, Entity
from system.migration.domain.errors import FileRefused

FORMAT_VERSION: Final = 1
_LISTED: Final = 10


@dataclass(frozen=True)
class Metadata:
    """What a data file says of itself, without its checksums.

    Attributes:
        exported_at: R0.4.
        counts: rows by entity.
    """

    exported_at: str
    counts: dict[str, int] = field(default_factory=dict)


def path_of(folder: Path, service: str) -> Path:
    """Where a service's data file is."""
    return folder / f"{service}-data.json"


def now() -> str:
    """The time as R0.4 writes it."""
    moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, if it is not there.

    Raises:
        FileRefused: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileRefused(
            f"the folder {folder} cannot be made: {error.strerror}; name another with --dir"
        ) from error


@contextlib.contextmanager
def written(
    folder: Path, service: str, exported_at: str
) -> Iterator[Callable[[Entity, Iterable[dict[str, Any]]], int]]:
    """Write a data file; yields a function that takes the rows of one entity and counts them.

    The file appears under a provisional name, which `publish` takes away once all are complete.
    """
    private_folder(folder)
    target = _provisional(path_of(folder, service))
    counts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        checksums, rows = (
            stack.enter_context(
                tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", newline="\n")
            )
            for _ in range(2)
        )

        def write(entity: Entity, source: Iterable[dict[str, Any]]) -> int:
            comma = "," if counts else ""
            checksums.write(f'{comma}"{entity.name}":{{')
            rows.write(f',\n"{entity.name}":[')
            key, count = entity.column(entity.key).key, 0
            for row in source:
                line, comma = canonical(row), "," if count else ""
                checksums.write(f'{comma}\n{canonical(row[key])}:"{checksum(line)}"')
                rows.write(f"{comma}\n{line}")
                count += 1
            checksums.write("}")
            rows.write("]")
            counts[entity.count] = count
            return count

        yield write
        target.unlink(missing_ok=True)
        with open(_private(target), "w", encoding="utf-8", newline="\n") as file:
            counted = "".join(f',"{name}":{count}' for name, count in counts.items())
            file.write(
                f'{{"metadata":{{"formatVersion":{FORMAT_VERSION},"service":"{service}",'
                f'"exportedAt":"{exported_at}"{counted},"checksums":{{'
            )
            _append(file, checksums)
            file.write("}}")
            _append(file, rows)
            file.write("}\n")
            file.flush()
            os.fsync(file.fileno())


def publish(folder: Path, services: Iterable[str]) -> None:
    """Give complete data files their names, in place of older ones."""
    for service in services:
        target = path_of(folder, service)
        _provisional(target).replace(target)


def discard(folder: Path, services: Iterable[str]) -> None:
    """Remove data files that were not published."""
    for service in services:
        _provisional(path_of(folder, service)).unlink(missing_ok=True)


def read(
    folder: Path,
    service: str,
    take: Callable[[Entity, dict[str, Any], str], None],
) -> Metadata:
    """Read a data file row by row, and make sure that it is as it was written.

    Args:
        take: is given entity, row and checksum of each row.  Whether the file is whole is known
            only at the end, so what it does must be undone when this raises.

    Raises:
        FileRefused: the file is missing, altered, or of another form.
    """
    path = path_of(folder, service)
    entities = {entity.name: entity for entity in FILES[service]}
    seen = dict.fromkeys(entities, 0)
    metadata: dict[str, Any] | None = None
    with _opened(path, service) as stream, Ledger() as ledger:
        for name in stream.members():
            if name == "metadata":
                metadata = _metadata(stream, ledger, entities)
            elif name in entities:
                entity = entities[name]
                key = entity.column(entity.key).key
                for row in stream.elements():
                    if not isinstance(row, dict) or not isinstance(row.get(key), str):
                        raise _refused(path, service, f"{name} has a row without {key}")
                    found = checksum(canonical(row))
                    ledger.find(name, row[key], found)
                    seen[name] += 1
                    take(entity, row, found)
        stream.end()
        if metadata is None:
            raise _refused(path, service, "it has no metadata")
        return _judged(path, service, metadata, seen, ledger)


def describe(folder: Path, service: str) -> Metadata | None:
    """What a data file says of itself, without reading all of it; None if there is none.

    Raises:
        FileRefused: it is of another form.
    """
    path = path_of(folder, service)
    if not path.exists():
        return None
    found: dict[str, Any] = {}
    with _opened(path, service) as stream:
        for name in stream.members():
            if name == "metadata":
                for key in stream.members():
                    if key == "checksums":
                        # What we write has everything else before it.
                        return _told(path, service, found)
                    found[key] = stream.value()
    raise _refused(path, service, "it has no checksums")


@contextlib.contextmanager
def _opened(path: Path, service: str) -> Iterator[JsonStream]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield JsonStream(file)
    except FileNotFoundError:
        raise FileRefused(
            f"{path} is not there; make it with `bin/migrate export {service}`, "
            "or name its folder with --dir"
        ) from None
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}") from error
    except NotJson as error:
        raise _refused(path, service, str(error)) from error


def _metadata(stream: JsonStream, ledger: Ledger, entities: dict[str, Entity]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in stream.members():
        if key != "checksums":
            found[key] = stream.value()
            continue
        for name in stream.members():
            if name in entities:
                for row_id in stream.members():
                    ledger.expect(name, row_id, str(stream.value()))
    return found


def _judged(
    path: Path, service: str, metadata: dict[str, Any], seen: dict[str, int], ledger: Ledger
) -> Metadata:
    told = _told(path, service, metadata)
    for entity in FILES[service]:
        judged = ledger.judge(entity.name, surplus=True, most=_LISTED)
        if judged.differing:
            listed = ", ".join(f"{one.row_id} ({one.problem})" for one in judged.differences)
            raise _refused(
                path, service, f"{entity.name} do not agree with their checksums: {listed}"
            )
        if told.counts[entity.count] != seen[entity.name]:
            raise _refused(
                path,
                service,
                f"seen {seen[entity.name]} {entity.name}, expected the "
                f"{told.counts[entity.count]} of {entity.count}",
            )
    return told


def _told(path: Path, service: str, metadata: dict[str, Any]) -> Metadata:
    version = metadata.get("formatVersion")
    if version != FORMAT_VERSION:
        raise _refused(path, service, f"formatVersion is {version!r}, expected {FORMAT_VERSION}")
    counts = {entity.count: metadata.get(entity.count) for entity in FILES[service]}
    wrong = [name for name, count in counts.items() if not isinstance(count, int)]
    if wrong:
        raise _refused(path, service, f"the metadata has no {' and no '.join(wrong)}")
    return Metadata(
        str(metadata.get("exportedAt")), {name: int(count or 0) for name, count in counts.items()}
    )


def _refused(path: Path, service: str, problem: str) -> FileRefused:
    return FileRefused(
        f"{path} was altered or is not a data file of {service}: {problem}. Nothing was imported; "
        f"make it again with `bin/migrate export {service}`"
    )


def _provisional(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _append(target: IO[str], source: IO[str]) -> None:
    source.seek(0)
    shutil.copyfileobj(source, target, 1 << 16)
