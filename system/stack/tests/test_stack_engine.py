"""What the private engine takes away again."""

from __future__ import annotations

from pathlib import Path

import pytest

from system.stack.engine import Engine, left_behind, remove_groups

FILTER = """\
-P FORWARD DROP
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-USER
-N KEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i br-4f0fa74ed9a8 -o br-4f0fa74ed9a8 -j ACCEPT
-A FORWARD -j KEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-USER -j RETURN
-A KEPT -i br-lan -j ACCEPT
"""


def test_rules_of_the_engine_go_and_others_stay() -> None:
    """Jumps before chains; rules and chains of others are not touched."""
    assert left_behind(FILTER.splitlines()) == [
        "-D FORWARD -j DOCKER-USER",
        "-D FORWARD -o docker0 -j DOCKER",
        "-D FORWARD -i br-4f0fa74ed9a8 -o br-4f0fa74ed9a8 -j ACCEPT",
        "-F DOCKER",
        "-F DOCKER-ISOLATION-STAGE-1",
        "-F DOCKER-USER",
        "-X DOCKER",
        "-X DOCKER-ISOLATION-STAGE-1",
        "-X DOCKER-USER",
    ]


def test_ways_back_to_published_ports_go() -> None:
    """They name no bridge, and an engine that was killed leaves them."""
    hairpin = "POSTROUTING -s 10.200.1.20/32 -d 10.200.1.20/32 -p tcp --dport 80 -j MASQUERADE"
    others = "POSTROUTING -s 10.8.0.0/24 -d 10.9.0.1/32 -j MASQUERADE"

    assert left_behind([f"-A {hairpin}", f"-A {others}"]) == [f"-D {hairpin}"]


def test_one_engine_for_a_project(tmp_path: Path) -> None:
    """Two clones do not share an engine; the same clone finds its own again."""
    assert Engine(project=tmp_path).folder == Engine(project=tmp_path).folder
    assert Engine(project=tmp_path).folder != Engine(project=tmp_path / "other").folder


def test_nothing_there_is_nothing_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`down` without an engine touches nothing, not even the packet filter."""
    monkeypatch.setenv("PATH", str(tmp_path))  # any program it called would be missing
    engine = Engine(project=tmp_path)

    engine.down()

    assert engine.running() is None
    assert not engine.folder.exists()


def test_groups_go_from_below(tmp_path: Path) -> None:
    """A group can only be removed when it has none below it; one in use keeps those above it."""
    (tmp_path / "docker" / "buildkit" / "step").mkdir(parents=True)
    (tmp_path / "other" / "used").mkdir(parents=True)
    (tmp_path / "other" / "used" / "process").touch()

    remove_groups(tmp_path / "docker")
    remove_groups(tmp_path / "other")
    remove_groups(tmp_path / "absent")

    assert [path.name for path in tmp_path.iterdir()] == ["other"]
