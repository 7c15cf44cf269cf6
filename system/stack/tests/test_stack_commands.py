"""The operator's commands on a running platform, each run as a person would run it."""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
from redis import Redis

from system.conftest import RunningStack
from system.stack.command_line import main
from system.stack.parts import SERVICES
from system.stack.state import PROJECT, StateFolder

COMMANDS = (
    ("up",), ("down",), ("status",), ("logs",), ("doctor",), ("control",), ("restart",),
    ("db",), ("db", "migrate"), ("db", "seed"), ("db", "reset"), ("db", "shell"), ("db", "backup"),
    ("cert",), ("cert", "make"), ("cert", "show"), ("cert", "trust"),
    ("broker",), ("broker", "topology"), ("broker", "queues"), ("broker", "ui"),
    ("cache",), ("cache", "status"), ("cache", "clear"),
    ("legacy",), ("legacy", "up"), ("legacy", "generate"), ("legacy", "down"),
)  # fmt: skip


def name_of(stack: RunningStack) -> str:
    """The running stack's name."""
    return next(state.name for state in StateFolder.all_of_project() if state.path == stack.folder)


def run(stack: RunningStack, *arguments: str, answer: str = "", cwd: Path = PROJECT) -> Any:
    """Run a command in a process of its own; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "system", "--stack", name_of(stack), *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT)},
        input=answer,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_teaches(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` says more than how it is called."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])

    said = capsys.readouterr().out
    assert ended.value.code == 0
    after = said.split("options:")[1].split("\n\n", 1)
    assert len(after) == 2, said
    assert len(after[1].split()) >= 4


@pytest.mark.parametrize("command", [c for c in COMMANDS if len(c) == 2], ids=" ".join)
def test_each_needs_a_stack(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Without one it fails and says how to start it."""
    more = {"shell": ["auth"], "reset": ["--yes"]}.get(command[1], [])
    assert main(["--stack", "a-stack-that-was-never-started", *command, *more]) == 1
    assert "up`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["db"],
        ["db", "migrate", "x"],
        ["db", "shell"],
        ["legacy", "generate", "--rows", "x"],
        ["restart", "x"],
    ],
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """R0.17."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.platform
def test_db_migrate_finds_nothing_to_do(stack: RunningStack) -> None:
    """R2.2: the version it tells is the database's."""
    said = run(stack, "db", "migrate", "payments").stdout
    whole = subprocess.run(
        stack.target["commands"]["schema"], shell=True, capture_output=True, text=True, check=True
    ).stdout
    with psycopg.connect(stack.database("payments")) as session:
        row = session.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    assert said == f"payments_db is at version {row[0]}\n"
    assert [line.split()[0] for line in whole.splitlines()] == [f"{name}_db" for name in SERVICES]
    assert said in whole


@pytest.mark.platform
def test_db_seed_resets_the_password_only(stack: RunningStack) -> None:
    """R2.23: the same account, another hash."""
    ask = "SELECT id, password_hash FROM users WHERE email = 'vendor@example.com'"
    with psycopg.connect(stack.database("auth"), autocommit=True) as session:
        before = session.execute(ask).fetchone()
        run(stack, "db", "seed")
        after = session.execute(ask).fetchone()
    assert before is not None
    assert after is not None
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.platform
def test_db_shell_is_the_owner(stack: RunningStack) -> None:
    """Reads from a pipe; an error is an error."""
    said = run(stack, "db", "shell", "admin", answer="SELECT current_user;").stdout
    assert "admin_owner" in said
    done = subprocess.run(
        [sys.executable, "-m", "system", "--stack", name_of(stack), "db", "shell", "admin"],
        cwd=PROJECT,
        input="SELECT nothing;",
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0


@pytest.mark.platform
def test_db_backup_dumps_all_four(stack: RunningStack, tmp_path: Path) -> None:
    """Where it says, for the owner only."""
    said = run(stack, "db", "backup", "--dir", str(tmp_path)).stdout
    files = [Path(line) for line in said.splitlines()]
    assert [file.name for file in files] == [f"{service}_db.dump" for service in SERVICES]
    assert all(file.read_bytes()[:5] == b"PGDMP" for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


@pytest.mark.platform
def test_db_reset_makes_a_database_anew(stack: RunningStack) -> None:
    """Only when it is meant; then the rows are gone and the service works on."""
    count = "SELECT count(*) FROM user_profiles"
    with psycopg.connect(stack.database("profile")) as session:
        session.execute("INSERT INTO user_profiles (id, user_id) VALUES ('x', 'x')")
    assert "nothing was done" in run(stack, "db", "reset", "profile", answer="no\n").stdout
    with psycopg.connect(stack.database("profile")) as session:
        assert session.execute(count).fetchone() != (0,)

    run(stack, "db", "reset", "profile", answer="YES\n")

    with psycopg.connect(stack.database("profile")) as session:
        assert session.execute(count).fetchone() == (0,)
    stack.until_ready()


@pytest.mark.platform
def test_cert_make_is_served_and_trusted(stack: RunningStack) -> None:
    """A new leaf under the same CA, at the edge itself; `show` tells its fingerprint."""
    before = fingerprint(stack)
    ca = Path(stack.target["http"]["ca"]).read_bytes()
    assert before in run(stack, "cert", "show").stdout

    said = run(stack, "cert", "make").stdout

    after = fingerprint(stack)  # by the old trust
    assert after != before
    assert after in said
    assert Path(stack.target["http"]["ca"]).read_bytes() == ca
    assert str(stack.target["http"]["ca"]) in run(stack, "cert", "trust").stdout
    stack.until_ready()


def fingerprint(stack: RunningStack) -> str:
    """Of the certificate that the edge serves, verified."""
    port = int(stack.origin.rpartition(":")[2])
    trust: ssl.SSLContext = stack.trust
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        trust.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        leaf = connection.getpeercert(binary_form=True)
    assert leaf is not None
    return hashlib.sha256(leaf).digest().hex(":")


@pytest.mark.platform
def test_broker_topology_sees_what_is_missing(stack: RunningStack) -> None:
    """All is there; without one binding it fails and names it."""
    said = run(stack, "broker", "topology").stdout
    assert "MISSING" not in said
    assert "events --#--> admin.events.queue" in said

    connection = pika.BlockingConnection(pika.URLParameters(stack.target["access"]["amqp"]["url"]))
    try:
        channel = connection.channel()
        channel.queue_unbind("profile.events.queue", "events", "auth.user.#")
        assert main(["--stack", name_of(stack), "broker", "topology"]) == 1
    finally:
        channel.queue_bind("profile.events.queue", "events", "auth.user.#")
        connection.close()
    assert main(["--stack", name_of(stack), "broker", "topology"]) == 0


@pytest.mark.platform
def test_broker_queues_and_ui(stack: RunningStack) -> None:
    """Every queue has a line; the account opens the pages."""
    lines = run(stack, "broker", "queues").stdout.splitlines()
    named = {line.split()[0] for line in lines[1:]}
    assert {f"{service}.events.queue" for service in SERVICES} | {"events.dlq"} <= named
    address, user, password = run(stack, "broker", "ui").stdout.splitlines()
    amqp = stack.target["access"]["amqp"]
    assert address == amqp["management"] + "/"
    assert (user, password) == (f"user {amqp['user']}", f"password {amqp['password']}")


@pytest.mark.platform
def test_cache_clear_removes_entries_and_nothing_else(stack: RunningStack) -> None:
    """The mirror of sessions stays."""
    with Redis.from_url(stack.target["access"]["redis"]["url"]) as redis:
        redis.set("payments:list:somebody:x", "old", ex=60)
        redis.set("auth:tag:user:somebody", "1", ex=60)
        redis.set("session:state:test-of-clear", "1", ex=60)
        assert "payments:list" in run(stack, "cache", "status").stdout

        said = run(stack, "cache", "clear").stdout

        assert int(said.split()[0]) >= 2
        assert redis.exists("payments:list:somebody:x", "auth:tag:user:somebody") == 0
        assert redis.delete("session:state:test-of-clear") == 1
    assert "payments:list" not in run(stack, "cache", "status").stdout


@pytest.mark.platform
def test_restart_brings_a_part_back(stack: RunningStack) -> None:
    """Another process, ready again."""
    before = {state.part: state.pid for state in stack.states()}
    said = run(stack, "restart", "profile").stdout
    stack.until_ready()
    after = {state.part: state.pid for state in stack.states()}
    assert said == f"profile serves again, process {after['profile']}\n"
    assert {part for part in after if after[part] != before[part]} == {"profile"}


@pytest.mark.platform
def test_legacy_and_migrate_by_the_target_file(stack: RunningStack, tmp_path: Path) -> None:
    """The whole way on the running platform by the commands the target file names."""
    commands = {name: shlex.split(stack.target["commands"][name]) for name in ("legacy", "migrate")}

    def do(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [*commands[name], *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        url = do("legacy", "up").strip()
        assert do("legacy", "generate", "--rows", "1000").strip() == url
        with psycopg.connect(url) as session:
            [(users,)] = session.execute("SELECT count(*) FROM users").fetchall()
        assert users == 40
        for command in ("backup", "export", "import", "validate"):
            do("migrate", command)
        answer = json.loads(do("migrate", "validate", "--json"))
        assert answer["valid"] is True
        stack.until_ready()
        for service in reversed(SERVICES):
            do("migrate", "rollback", service, "--yes")
    finally:
        assert "ended" in do("legacy", "down")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)
    assert {state.part for state in stack.states()} == set(stack.target["control"])
