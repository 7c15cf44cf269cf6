"""No room for a database's rows: writes are 503 and lose nothing, reads go on, room heals all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from system.conftest import RunningStack
from system.stack.native import Override
from system.tests.desks import SERVICES, Desk, new_key, readiness, refused, table_of, until

pytestmark = pytest.mark.platform

_ROOM = "1m"
# Runs a server with a small file system of its own at $1, which nobody else sees (the namespace
# of mounts is private) and which is gone with it; then with its own user again.
_WITH_SMALL_DISK = (
    'folder=$1; user=$2; group=$3; shift 3; mount -t tmpfs -o size={room},mode=0700 tmpfs "$folder"'
    ' && exec unshare --user --map-user="$user" --map-group="$group" -- "$@"'
)


@contextmanager
def _refusing(stack: RunningStack, service: str, sqlstate: str) -> Iterator[None]:
    """Every row for a table is refused as by a server in trouble: by a trigger that says so.

    A simulation: the server itself is well and has room.
    """
    table = table_of(service)
    with psycopg.connect(stack.database(service), autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            f" 'could not extend file' USING ERRCODE = '{sqlstate}'; END $$"
        )
        db.execute(
            f"CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
        try:
            yield
        finally:
            db.execute("DROP FUNCTION no_room CASCADE")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "sqlstate",
    [
        pytest.param("53100", id="disk full"),
        pytest.param("58030", id="disk broken"),
        pytest.param("25006", id="read-only"),
    ],
)
def test_r1_14_the_server_says_that_it_cannot_write(
    well: RunningStack, desk: Desk, service: str, sqlstate: str
) -> None:
    """It is 503 at every service; the write leaves no trace, and succeeds later."""
    before, lost = new_key(), new_key()
    assert desk.write(service, before).is_success

    with _refusing(well, service, sqlstate):
        refused(desk.write(service, lost))
        assert readiness(well, service)[0] == 200
    assert desk.effects(service, lost) == 0
    assert desk.write(service, lost).is_success

    desk.all_arrived_once(service, [before, lost])


def _can_have_a_disk() -> bool:
    """True if this machine lets PostgreSQL's user make a private file system."""
    if (unshare := shutil.which("unshare")) is None:
        return False
    command = [unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    user = "postgres" if os.getuid() == 0 else None
    return subprocess.run(command, capture_output=True, user=user).returncode == 0


def test_r1_14_the_disk_of_payments_is_full(well: RunningStack, desk: Desk) -> None:
    """A real one of 1 MiB: what was accepted before stands, what was refused left no trace."""
    if not _can_have_a_disk():
        pytest.skip("no private mounts here; the test above simulates the full disk")
    part = "postgres-payments"
    disk = well.folder / part / "small-disk"
    disk.mkdir(mode=0o700)
    owner = (well.folder / part).stat()
    os.chown(disk, owner.st_uid, owner.st_gid)
    prefix = (
        *("/usr/bin/unshare", "-Urm", "/bin/sh", "-c", _WITH_SMALL_DISK.format(room=_ROOM), "sh"),
        *(str(disk), str(owner.st_uid), str(owner.st_gid)),
    )
    well.restart(part, Override(command_prefix=prefix))
    try:
        with _on_disk(well, disk) as filled:
            keys: list[str] = []
            lost: list[str] = []
            for _ in range(400):
                key = new_key()
                answer = desk.write("payments", key)
                if answer.is_success:
                    assert not lost, "room came back by itself"
                    keys.append(key)
                else:
                    refused(answer)
                    lost.append(key)
                    if len(lost) == 10:
                        break
            assert len(lost) == 10
            assert desk.ask("GET", "/api/payments").is_success
            assert {desk.effects("payments", key) for key in lost} == {0}
            filled.execute("DROP TABLE filling")
            for key in lost:
                assert desk.write("payments", key).is_success
            desk.all_arrived_once("payments", [*keys, *lost])
    finally:
        well.restart(part)
    until(desk.pays_again, 10)


@contextmanager
def _on_disk(stack: RunningStack, disk: Path) -> Iterator[psycopg.Connection]:
    """The payments on the small disk, which is filled to the last page by another table."""
    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        db.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        try:
            db.execute("ALTER TABLE payments SET TABLESPACE small")
            db.execute("CREATE TABLE filling (page text) TABLESPACE small")
            # A row for each page; compressed they would take no room.
            db.execute("ALTER TABLE filling ALTER page SET STORAGE PLAIN")
            until(lambda: _has_no_room(db), 30)
            yield db
        finally:
            db.execute("DROP TABLE IF EXISTS filling")
            db.execute("ALTER TABLE payments SET TABLESPACE pg_default")
            db.execute("DROP TABLESPACE small")


def _has_no_room(db: psycopg.Connection) -> bool:
    """Take another page; True if there was none."""
    try:
        db.execute("INSERT INTO filling VALUES (repeat('x', 8000))")
    except psycopg.errors.DiskFull:
        return True
    return False
