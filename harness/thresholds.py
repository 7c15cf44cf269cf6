"""The numbers of the gates: read from one TOML file, with what a profile shortens."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROFILES = ("quick", "full", "soak")


class ThresholdsError(ValueError):
    """The thresholds file cannot be used, or a criterion asks for a number it does not hold."""


class Limits(Mapping[str, Any]):
    """The numbers of one criterion under one profile.

    Attributes:
        shortened: names whose value the profile replaced; the report names them.
    """

    def __init__(self, criterion: str, values: Mapping[str, Any], shortened: tuple[str, ...]):
        self._criterion = criterion
        self._values = dict(values)
        self.shortened = shortened

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise ThresholdsError(
                f"thresholds: [criteria.{self._criterion}] has no {key!r}; it holds "
                f"{', '.join(sorted(self._values)) or 'nothing'}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Thresholds:
    """All numbers of a run.

    Args:
        document: ``[criteria.<id>]`` tables; ``[criteria.<id>.<profile>]`` replaces values.
        profile: quick, full or soak.
        digest: identifies the file's content in the result.
    """

    def __init__(self, document: Mapping[str, Any], profile: str, digest: str = "") -> None:
        if profile not in PROFILES:
            raise ThresholdsError(f"profile is {profile!r}, expected one of {', '.join(PROFILES)}")
        self._criteria: Mapping[str, Any] = document.get("criteria", {})
        self.profile = profile
        self.digest = digest

    def of(self, criterion: str) -> Limits:
        """The numbers of a criterion; empty when the file names none."""
        table = self._criteria.get(criterion, {})
        base = {key: value for key, value in table.items() if key not in PROFILES}
        override = table.get(self.profile, {})
        return Limits(criterion, {**base, **override}, tuple(sorted(override)))

    def unknown(self, criteria: set[str]) -> set[str]:
        """Tables that belong to no known criterion (misspelt ids)."""
        return set(self._criteria) - criteria


def load(path: Path, profile: str) -> Thresholds:
    """Read a thresholds file.

    Raises:
        ThresholdsError: unreadable, not TOML, or an unknown profile.
    """
    try:
        raw = path.read_bytes()
        document = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ThresholdsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThresholdsError(f"{path} is not TOML: {error}") from error
    return Thresholds(document, profile, hashlib.sha256(raw).hexdigest())
