"""Names of images, and the scripts of the stand-ins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from system.images import build
from system.images.build import FAULTS, HERE, PYTHON_BASE, SERVERS_BASE, VARIABLES, Images
from system.stack.compose import FILE


def test_every_variable_is_one_of_the_compose_file() -> None:
    """What the builder names, compose.yaml reads."""
    text = FILE.read_text(encoding="utf-8")

    of_compose = set(VARIABLES.values()) - {VARIABLES[FAULTS]}
    assert all(f"${{{variable}:-" in text for variable in of_compose)
    assert set(Images().names()) == set(VARIABLES.values())
    official = Images(official=True).names()
    assert "POSTGRES_IMAGE" not in official
    assert VARIABLES[FAULTS] in official


def test_a_name_changes_with_the_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stale image cannot be taken for a fresh one."""
    before = Images().names()
    assert Images().names() == before
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "standins").mkdir()
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "_IN_CONTEXT", ())
    after = Images().names()

    assert not set(before.values()) & set(after.values())


def test_bases_differ_by_what_they_hold() -> None:
    """The key of a base is that of its packages and sources."""
    more = build.Base("base-python", (*PYTHON_BASE.packages, "curl"), PYTHON_BASE.removed)

    assert more.image != PYTHON_BASE.image
    assert SERVERS_BASE.image.startswith("seatrial/base-servers:")


@pytest.mark.parametrize("script", sorted((HERE / "standins").glob("*.sh")), ids=lambda p: p.name)
def test_entry_scripts_are_shell(script: Path) -> None:
    """The shell of Debian reads each of them."""
    subprocess.run(["sh", "-n", str(script)], check=True)
