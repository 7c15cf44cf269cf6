"""The state folder is ours alone, survives crashes, and names who holds it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.stack import process, state
from system.stack.errors import StackBusy, StackNotThere, UnsafeFolder
from system.stack.launch import Launch, Readiness
from system.stack.state import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    """The state folder of a stack in a project of its own."""
    made = StateFolder("one", project=tmp_path)
    yield made
    if made.path.is_symlink():
        made.path.unlink()
    shutil.rmtree(made.path, ignore_errors=True)


def a_launch(part: str = "redis") -> Launch:
    """A launch that nobody carries out."""
    return Launch(part, ("/bin/true",), {"A": "b"}, ".", Readiness("port", 1))


def test_each_project_and_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Two stacks side by side do not share anything."""
    places = {
        StateFolder(name, project=project).path
        for name in ("one", "two")
        for project in (tmp_path, tmp_path / "other")
    }

    assert len(places) == 4
    assert all(place.parent == Path("/tmp") for place in places)


def test_others_may_pass_through_but_not_read(folder: StateFolder) -> None:
    """0711: PostgreSQL's user reaches its data, and nobody lists or reads the secrets."""
    with folder.held(alone=True):
        folder.create()
        folder.write({"name": "one"})

    assert folder.path.stat().st_mode & 0o777 == 0o711
    assert (folder.path / "stack.json").stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_refused(folder: StateFolder, tmp_path: Path) -> None:
    """In /tmp anybody could have put a link there."""
    folder.path.symlink_to(tmp_path)

    with pytest.raises(UnsafeFolder, match="expected to be free or ours"), folder.held(alone=True):
        pass


def test_a_stack_that_was_never_started_says_how_to_start_it(folder: StateFolder) -> None:
    """The message holds the command."""
    with pytest.raises(StackNotThere, match="python -m system --stack one up"):
        folder.read()


def test_a_held_stack_is_busy_for_others(folder: StateFolder) -> None:
    """Two commands do not change one stack at once; acts on parts do not hinder each other."""
    with (
        folder.held(alone=True),
        pytest.raises(StackBusy, match="did not end within 0 s"),
        folder.held(alone=True, seconds=0.0),
    ):
        pass
    with folder.held(alone=False), folder.held(alone=False, seconds=0.0):
        pass


def test_the_lock_lasts_while_a_launcher_holds_it(folder: StateFolder) -> None:
    """When `up` is killed, `down` waits for launchers that have not become programs yet."""
    with folder.held(alone=True) as descriptor:
        launcher = os.dup(descriptor)

    with pytest.raises(StackBusy), folder.held(alone=True, seconds=0.0):
        pass
    os.close(launcher)
    with folder.held(alone=True, seconds=0.0):
        pass


def test_removing_leaves_nothing(folder: StateFolder) -> None:
    """Neither the folder nor the pointer to it stays."""
    with folder.held(alone=True):
        folder.create()
        folder.point()
        folder.write({"name": "one"})
        folder.remove()

    assert not folder.path.exists()
    assert not folder.pointer.exists()


def test_a_launch_comes_back_as_it_was_kept(folder: StateFolder) -> None:
    """Any later process starts the part in the same way."""
    with folder.held(alone=True):
        folder.create()
        folder.keep_launch(a_launch())

    assert folder.launch_of("redis") == a_launch()
    assert folder.launches() == ["redis"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"part": "redis"}'])
def test_a_broken_launch_is_an_error(text: str) -> None:
    """Half a file is not half a launch."""
    with pytest.raises(ValueError, match=r"not the record|Expecting value"):
        Launch.from_json(text)


def test_a_process_of_another_boot_is_not_ours(folder: StateFolder) -> None:
    """After a reboot, pids and start times mean nothing."""
    with folder.held(alone=True):
        folder.create()
        shutil.copy(f"/proc/{os.getpid()}/stat", folder.pid_file("redis"))
        assert folder.process_of("redis") == process.recorded(folder.pid_file("redis"))
        (folder.path / "boot").write_text("another")

    assert folder.process_of("redis") is None


def test_all_stacks_of_a_project_are_found(folder: StateFolder, tmp_path: Path) -> None:
    """By the pointer in the project, or by the document in /tmp when the pointer is gone."""
    with folder.held(alone=True):
        folder.create()
        folder.point()
    assert [found.name for found in StateFolder.all_of_project(tmp_path)] == ["one"]

    folder.pointer.unlink()
    assert not list(StateFolder.all_of_project(tmp_path))
    folder.write({"name": "one", "project": str(tmp_path)})
    assert [found.name for found in StateFolder.all_of_project(tmp_path)] == ["one"]


def test_boot_id_is_a_stable_text() -> None:
    """Asked twice, it is the same."""
    assert state.boot_id() == state.boot_id() != ""
