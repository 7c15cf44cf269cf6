"""Several of the gateway and of each service: their names, ports, addresses, and acts on them."""

from __future__ import annotations

import shutil
import signal
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.platform.config.loading import load
from system.stack import acts, environment, parts, ports, process, rolling, target_file
from system.stack.command_line import main
from system.stack.credentials import generate
from system.stack.errors import StackError, UnknownPart
from system.stack.launch import Launch, Readiness
from system.stack.state import StateFolder

TWO = ports.free(ports.names(2), usable=lambda _: True, seed=1)

_SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": {"status": "ready"}}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    ("name", "part", "number"),
    [
        ("gateway", "gateway", 1),
        ("gateway-2", "gateway", 2),
        ("auth-11", "auth", 11),
        ("postgres-auth", "postgres-auth", 1),
        ("gateway-0", "gateway-0", 1),
        ("redis-2", "redis-2", 1),
    ],
)
def test_a_members_name_says_whose_it_is(name: str, part: str, number: int) -> None:
    """Only our own programs have members."""
    assert (parts.part_of(name), parts.number_of(name)) == (part, number)


def test_one_of_each_has_the_parts_names() -> None:
    """What was true before there could be several."""
    chosen = ports.free(usable=lambda _: True)

    assert parts.with_members(parts.PARTS, chosen) == list(parts.PARTS)
    assert ports.names(1) == ports.NAMES


def test_the_first_member_has_the_contracts_port() -> None:
    """R0.6 names one port; the others' are free ones."""
    chosen = ports.standard(2, usable=lambda _: True)

    assert (chosen["gateway"], chosen["profile"]) == (3000, 3004)
    assert chosen["gateway-2"] >= ports.FIRST
    assert {parts.replicas_of(part, chosen) for part in parts.PROGRAMS} == {2}
    assert set(TWO) - set(ports.NAMES) == {f"{program}-2" for program in parts.PROGRAMS}


@pytest.mark.parametrize("program", parts.PROGRAMS)
def test_each_member_has_its_port_and_knows_all_of_the_others(program: str) -> None:
    """R0.13: a list of addresses means several instances."""
    credentials = generate()
    first, second = (
        load(program, environment.process_environment(member, TWO, credentials))
        for member in parts.member_names(program, 2)
    )

    assert (first.port, second.port) == (TWO[program], TWO[f"{program}-2"])
    assert first.auth_service_urls == second.auth_service_urls
    assert first.auth_service_urls == tuple(
        f"http://127.0.0.1:{TWO[name]}" for name in ("auth", "auth-2")
    )


def test_the_target_names_all_members(tmp_path: Path) -> None:
    """The first is the service's address as before; each can be controlled by itself."""

    def target(chosen: dict[str, int]) -> dict[str, object]:
        values = target_file.document(
            name="one",
            project=tmp_path,
            ports=chosen,
            credentials=generate(),
            ca=tmp_path / "ca.pem",
            logs=tmp_path,
        )
        return tomllib.loads(target_file.render(values))

    several = target(TWO)
    single = target(ports.free(usable=lambda _: True))

    gateway = several["services"]["gateway"]  # type: ignore[index]
    assert gateway["url"] == gateway["members"][0] == f"http://127.0.0.1:{TWO['gateway']}"
    assert gateway["members"][1] == f"http://127.0.0.1:{TWO['gateway-2']}"
    assert several["control"]["gateway-2"]["stop"].endswith("control gateway-2 stop")  # type: ignore[index]
    assert several["parts"]["replicas"] is True  # type: ignore[index]
    assert several["commands"]["rolling-restart"].endswith("restart --rolling")  # type: ignore[index]
    assert single["parts"]["replicas"] == "one member of each part"  # type: ignore[index]
    assert set(single["services"]["gateway"]) == {"url"}  # type: ignore[index]
    assert "rolling-restart" not in single["commands"]  # type: ignore[operator]


def test_parts_may_differ_in_their_members(tmp_path: Path) -> None:
    """Each is counted by its own ports; what needs two of each is told what lacks."""
    chosen = {name: port for name, port in TWO.items() if name != "payments-2"}
    chosen["gateway-3"] = 1

    values = target_file.document(
        name="one",
        project=tmp_path,
        ports=chosen,
        credentials=generate(),
        ca=tmp_path / "ca.pem",
        logs=tmp_path,
    )

    assert len(values["services"]["gateway"]["members"]) == 3
    assert "members" not in values["services"]["payments"]
    assert {"gateway-3", "auth-2", "payments"} <= values["control"].keys()
    assert values["parts"]["replicas"] == "one member of payments"
    assert "rolling-restart" not in values["commands"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StateFolder]:
    """A stack with two members of `auth` and one `gateway`, recorded but not running."""
    state = StateFolder("replicas", project=tmp_path)
    chosen = ports.free(["auth", "auth-2", "gateway"])
    members = {"auth-1": "auth", "auth-2": "auth-2", "gateway": "gateway"}
    with state.held(alone=True):
        state.create()
        state.write({"name": "replicas", "phase": "up", "ports": chosen})
        for member, name in members.items():
            launch = Launch(
                part=member,
                command=(sys.executable, "-S", "-c", _SERVICE, str(chosen[name])),
                environment={},
                folder=".",
                readiness=Readiness("http", chosen[name]),
                grace=2.0,
            )
            state.keep_launch(launch)
            state.keep_plain_launch(launch)
    yield state
    for member in members:
        if (found := state.process_of(member)) is not None:
            process.end(found, signal.SIGKILL, 2.0)
    shutil.rmtree(state.path, ignore_errors=True)


def test_a_name_stands_for_all_members_or_for_one(stack: StateFolder) -> None:
    """In the parts' order, numbers as numbers."""
    assert stack.launches() == ["gateway", "auth-1", "auth-2"]
    assert stack.members_of("auth") == ["auth-1", "auth-2"]
    assert stack.members_of("auth-2") == ["auth-2"]
    assert stack.members_of("gateway") == ["gateway"]
    with pytest.raises(UnknownPart, match="auth runs as auth-1, auth-2"):
        stack.members_of("auth-3")


def test_an_act_on_the_part_is_one_on_each_member(stack: StateFolder) -> None:
    """And an act on a member leaves the others alone."""
    acts.control(stack, "auth", "start")
    first, second = stack.process_of("auth-1"), stack.process_of("auth-2")
    assert first is not None
    assert second is not None

    acts.control(stack, "auth-2", "restart")
    assert stack.process_of("auth-1") == first
    assert stack.process_of("auth-2") not in (None, second)

    acts.control(stack, "auth", "stop")
    assert stack.process_of("auth-1") is stack.process_of("auth-2") is None


def test_members_are_restarted_one_after_the_other(stack: StateFolder) -> None:
    """While one is away, the other one serves."""
    acts.control(stack, "auth", "start")
    before = {member: stack.process_of(member) for member in ("auth-1", "auth-2")}

    steps = rolling.restart(stack, "auth", acts)
    assert next(steps)[0] == "auth-1"
    assert stack.process_of("auth-1") not in (None, before["auth-1"])
    assert stack.process_of("auth-2") == before["auth-2"]

    assert [member for member, _ in steps] == ["auth-2"]
    assert stack.process_of("auth-2") not in (None, before["auth-2"])


def test_the_only_member_is_not_restarted_rolling(stack: StateFolder) -> None:
    """Nothing would serve meanwhile; the error says what to do."""
    acts.control(stack, "gateway", "start")
    found = stack.process_of("gateway")

    with pytest.raises(StackError, match="--replicas 2"):
        next(rolling.restart(stack, "gateway", acts))
    assert stack.process_of("gateway") == found


@pytest.mark.parametrize(
    "wrong", [["up", "--replicas", "0"], ["up", "--replicas", "9"], ["control", "redis-2", "stop"]]
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is touched."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
