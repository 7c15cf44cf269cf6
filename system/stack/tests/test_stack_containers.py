"""Stacks in containers, as far as no engine is needed to see it."""

from __future__ import annotations

import io
import ipaddress
import shlex
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from system.images import relay
from system.stack import (
    compose,
    composing,
    container_acts,
    container_logs,
    containers,
    lent_place,
    network_faults,
    readiness,
    relayed,
    target_file,
)
from system.stack import docker_engine as engine
from system.stack.command_line import main
from system.stack.errors import NotInstalled, StackError, UnknownPart
from system.stack.parts import SERVICES
from system.stack.state import PROJECT, StateFolder

NOWHERE = "unix:///nowhere/docker.sock"


class FakeEngine:
    """Containers, networks and their changes, in memory, in the shapes of the API."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.networks: list[dict[str, Any]] = []
        self.done: list[str] = []

    def add(self, key: str, labels: dict[str, str], networks: dict[str, Any], **state: Any) -> None:
        """Put a running container in."""
        self.containers[key] = {
            "Id": key,
            "Image": "sha256:image",
            "Labels": labels,
            "State": {"Running": True, "Paused": False, "Status": "running", "ExitCode": 0} | state,
            "NetworkSettings": {"Networks": networks},
        }

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the module's functions."""
        monkeypatch.setattr(engine, "containers", self._listed)
        monkeypatch.setattr(engine, "inspect", lambda key: self.containers[key])
        monkeypatch.setattr(engine, "networks", lambda labels: self.networks)
        monkeypatch.setattr(engine, "act", self._act)
        monkeypatch.setattr(engine, "create", self._create)
        monkeypatch.setattr(engine, "join", self._join)
        monkeypatch.setattr(engine, "remove", self._remove)
        monkeypatch.setattr(engine, "logs", lambda key: b"listening\n")

    def _listed(self, labels: dict[str, str], **_: Any) -> list[dict[str, Any]]:
        return [c for c in self.containers.values() if labels.items() <= c["Labels"].items()]

    def _act(self, key: str, action: str, **_: Any) -> None:
        self.done.append(f"{action} {key}")
        self.containers[key]["State"]["Running"] = action in ("start", "unpause")
        self.containers[key]["State"]["Paused"] = action == "pause"

    def _create(self, name: str, body: dict[str, Any]) -> str:
        self.done.append(f"create {name}")
        networks = body.get("NetworkingConfig", {"EndpointsConfig": {}})["EndpointsConfig"]
        self.add(name, body["Labels"], dict(networks))
        self.containers[name] |= {"body": body}
        return name

    def _join(self, network: str, key: str, endpoint: dict[str, Any]) -> None:
        self.containers[key]["NetworkSettings"]["Networks"][network] = endpoint

    def _remove(self, key: str) -> None:
        self.done.append(f"remove {key}")
        del self.containers[key]


@pytest.fixture
def state() -> Iterator[StateFolder]:
    """The folder of a stack in containers of which only the document is true."""
    folder = StateFolder("test-of-containers")
    folder.create()
    folder.write(
        {
            "name": folder.name,
            "kind": containers.KIND,
            "project": str(folder.project),
            "phase": "up",
            "ports": {"payments": 1},
            "stand_ins": {"payments": [3002, "10.201.1.1", 20001]},
        }
    )
    yield folder
    folder.remove()


@pytest.fixture
def fake(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A fake engine that runs one payments service in two networks."""
    found = FakeEngine()
    project = container_acts.project_of(state)
    found.networks = [
        {"Name": "p_inside", "IPAM": {"Config": [{"IPRange": "10.201.0.0/24"}]}},
        {"Name": "p_cache", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}]}},
    ]
    found.add(
        "abcdef0123456789",
        {container_acts.PROJECT_LABEL: project, container_acts.SERVICE_LABEL: "payments"},
        {
            "p_inside": {"IPAddress": "10.201.0.7", "Aliases": ["payments", "abcdef012345"]},
            "p_cache": {"IPAddress": "172.18.0.9", "Aliases": ["payments"]},
        },
    )
    found.install(monkeypatch)
    monkeypatch.setattr(container_acts, "wait_until_ready", lambda *_, **__: None)
    monkeypatch.setattr(readiness, "problem", lambda *_, **__: None)
    return found


def test_a_stopped_part_leaves_its_place_held(state: StateFolder, fake: FakeEngine) -> None:
    """Same names everywhere, the same address where it can be asked for; nothing runs there."""
    container_acts.control(state, "payments", "stop")

    holder = next(c for c in fake.containers.values() if "body" in c)
    assert fake.done == [
        f"create {holder['Id']}",
        "stop abcdef0123456789",
        f"start {holder['Id']}",
    ]
    assert holder["NetworkSettings"]["Networks"] == {
        "p_inside": {"Aliases": ["payments"], "IPAMConfig": {"IPv4Address": "10.201.0.7"}},
        "p_cache": {"Aliases": ["payments"]},
    }
    assert (holder["body"]["Entrypoint"], holder["body"]["Cmd"]) == (["sleep"], ["infinity"])


def test_a_start_takes_the_place_back(state: StateFolder, fake: FakeEngine) -> None:
    """The holder goes before the part starts, or both would have one address."""
    container_acts.control(state, "payments", "kill")
    fake.done.clear()

    container_acts.control(state, "payments", "start")

    assert [act.split()[0] for act in fake.done] == ["remove", "start"]
    assert len(fake.containers) == 1


def test_what_is_stopped_twice_is_held_once(state: StateFolder, fake: FakeEngine) -> None:
    """A second stop finds nothing running, so there is nothing to hold."""
    container_acts.control(state, "payments", "stop")
    container_acts.control(state, "payments", "stop")

    assert len(fake.containers) == 2


def test_a_frozen_part_is_thawed_before_it_ends(state: StateFolder, fake: FakeEngine) -> None:
    """A frozen process cannot take the signal that ends it."""
    container_acts.control(state, "payments", "pause")
    container_acts.control(state, "payments", "stop")

    order = [act.split()[0] for act in fake.done]
    assert order == ["pause", "unpause", "create", "stop", "start"]


def test_a_lent_place_leads_to_the_stand_in(state: StateFolder, fake: FakeEngine) -> None:
    """The holder runs the forwarder, with the port, host and port of the document."""
    container_acts.control(state, "payments", "lend")

    holder = next(c for c in fake.containers.values() if "body" in c)
    assert holder["body"]["Entrypoint"] == ["python3"]
    assert holder["body"]["Cmd"][-3:] == ["3002", "10.201.1.1", "20001"]
    compile(holder["body"]["Cmd"][1], "forwarder", "exec")


def test_a_members_name_means_one_and_the_parts_all(state: StateFolder, fake: FakeEngine) -> None:
    """As natively; each member's place is held by itself."""
    state.write({**state.read(), "ports": {"payments": 1, "payments-2": 2}})
    first = fake.containers["abcdef0123456789"]
    first["Labels"][container_acts.NUMBER_LABEL] = "1"
    second = {**first["Labels"], container_acts.NUMBER_LABEL: "2"}
    fake.add("fedcba9876543210", second, {"p_cache": {"IPAddress": "172.18.0.10"}})

    container_acts.control(state, "payments-2", "stop")
    assert fake.done[1] == "stop fedcba9876543210"
    assert not any("abcdef" in act for act in fake.done)

    fake.done.clear()
    container_acts.control(state, "payments", "restart")
    assert {act for act in fake.done if "stop" in act} == {
        "stop abcdef0123456789",
        "stop fedcba9876543210",
    }
    assert len(fake.containers) == 2, "the place of the second is its own again"
    assert container_acts.readiness_of(state, "payments-2").port == 2
    with pytest.raises(UnknownPart, match="payments runs as payments-1, payments-2"):
        container_acts.control(state, "payments-3", "stop")


def test_parts_without_a_place_cannot_be_lent(state: StateFolder, fake: FakeEngine) -> None:
    """Only a service has somebody who could stand in for it."""
    with pytest.raises(UnknownPart, match="redis cannot be lent; only payments"):
        container_acts.control(state, "redis", "lend")
    with pytest.raises(UnknownPart, match="no part 'mainframe'"):
        container_acts.control(state, "mainframe", "stop")
    with pytest.raises(container_acts.PartFailed, match="no such container"):
        container_acts.control(state, "edge", "stop")


@pytest.fixture
def helpers(state: StateFolder, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The fake engine, whose helpers disturb networks as they are told."""
    state.write({**state.read(), network_faults.IMAGE: "seatrial/faults:1"})
    monkeypatch.setattr(engine, "logs", lambda key: b"in force\n")
    return fake


def test_a_helper_disturbs_the_network_of_the_part(state: StateFolder, helpers: FakeEngine) -> None:
    """It shares the part's network, may change its packet filter and nothing else."""
    network_faults.disturb(state, "payments", "redis", "slow", 250)

    (helper,) = (c for c in helpers.containers.values() if "body" in c)
    body, host = helper["body"], helper["body"]["HostConfig"]
    assert body["Image"] == "seatrial/faults:1"
    assert body["Cmd"][-3:] == ["6379", "slow", "250"]
    compile(body["Cmd"][2], "disturbed_way", "exec")
    assert host["NetworkMode"] == "container:abcdef0123456789"
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["NET_ADMIN"])
    assert body["Labels"][container_acts.PROJECT_LABEL] == container_acts.project_of(state)
    assert helper["State"]["Running"]


def test_a_stack_of_former_times_has_no_faults(state: StateFolder, helpers: FakeEngine) -> None:
    """It does not know what a helper is made of, and says what to do."""
    document = state.read()
    del document[network_faults.IMAGE]
    state.write(document)

    with pytest.raises(StackError, match=r"no FAULTS_IMAGE; `down` and `up`"):
        network_faults.disturb(state, "payments", "redis", "cut")
    assert [c for c in helpers.containers.values() if "body" in c] == []


def test_one_fault_for_each_way_is_in_force(state: StateFolder, helpers: FakeEngine) -> None:
    """The next replaces it; another way keeps its own; what heals goes, too."""

    def words() -> list[list[str]]:
        return [c["body"]["Cmd"][3:] for c in helpers.containers.values() if "body" in c]

    network_faults.disturb(state, "payments", "redis", "cut")
    network_faults.disturb(state, "payments", "redis", "cut")
    network_faults.disturb(state, "payments", "rabbitmq", "lose", 2.5)
    assert words() == [["6379", "cut"], ["5672", "lose", "2.5"]]

    network_faults.disturb(state, "payments", "redis", "heal")
    network_faults.disturb(state, "payments", "redis", "heal")
    assert words() == [["5672", "lose", "2.5"]]


def test_a_fault_is_of_all_members_or_of_one(state: StateFolder, helpers: FakeEngine) -> None:
    """The part's name means all its containers, a member's name its own."""
    state.write({**state.read(), "ports": {"payments": 1, "payments-2": 2}})
    first = helpers.containers["abcdef0123456789"]
    first["Labels"][container_acts.NUMBER_LABEL] = "1"
    second = {**first["Labels"], container_acts.NUMBER_LABEL: "2"}
    helpers.add("fedcba9876543210", second, {})

    def disturbed() -> set[str]:
        bodies = [c["body"]["HostConfig"] for c in helpers.containers.values() if "body" in c]
        return {body["NetworkMode"] for body in bodies}

    network_faults.disturb(state, "payments-2", "redis", "cut")
    assert disturbed() == {"container:fedcba9876543210"}

    network_faults.disturb(state, "payments", "redis", "cut")
    assert disturbed() == {"container:fedcba9876543210", "container:abcdef0123456789"}

    network_faults.disturb(state, "payments", "redis", "heal")
    assert disturbed() == set()


def test_the_note_is_there_before_the_rules_and_goes_after_them(
    state: StateFolder, helpers: FakeEngine
) -> None:
    """So a command that is killed anywhere leaves what `heal` can see."""
    network_faults.disturb(state, "payments", "redis", "cut")
    network_faults.disturb(state, "payments", "redis", "heal")

    assert [act.split()[0] for act in helpers.done] == [
        *("create", "start"),  # cut
        *("create", "remove", "start", "remove"),  # heal, which keeps a note while it works
    ]


def test_a_part_that_does_not_run_is_not_disturbed(state: StateFolder, helpers: FakeEngine) -> None:
    """There is nothing to cut; what was in force ended with it, so healing only tidies up."""
    network_faults.disturb(state, "payments", "redis", "cut")
    helpers.containers["abcdef0123456789"]["State"]["Running"] = False

    with pytest.raises(container_acts.PartFailed, match="payments: does not run"):
        network_faults.disturb(state, "payments", "redis", "cut")
    network_faults.disturb(state, "payments", "redis", "heal")

    assert list(helpers.containers) == ["abcdef0123456789"]


def test_rules_that_cannot_be_made_are_told(
    state: StateFolder, helpers: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper's own words are shown."""
    monkeypatch.setattr(engine, "logs", lambda key: b"iptables: no such match\n")
    act = engine.act

    def start(key: str, action: str) -> None:
        act(key, action)
        helpers.containers[key]["State"] |= {"Status": "exited", "ExitCode": 1}

    monkeypatch.setattr(engine, "act", start)
    with pytest.raises(StackError, match=r"payments cannot be disturbed \(1\):\niptables: no such"):
        network_faults.disturb(state, "payments", "redis", "lose", 10)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["slow", "auth", "redis"], "required: --milliseconds"),
        (["slow", "auth", "redis", "--milliseconds", "0"], "seen '0', expected more than 0"),
        (["lose", "auth", "redis", "--percent", "101"], "at most 100"),
        (["lose", "auth", "redis", "--percent", "few"], "seen 'few'"),
        (["cut", "edge", "redis"], "seen 'edge', expected auth"),
        (["cut", "auth", "gateway"], "invalid choice: 'gateway'"),
    ],
)
def test_wrong_words_of_a_fault_are_told(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, with what is expected."""
    with pytest.raises(SystemExit) as ended:
        main(["fault", *words])

    assert ended.value.code == 2
    assert fault in capsys.readouterr().err


def test_local_processes_have_no_network_of_their_own(
    state: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A native stack says so, and what has one."""
    state.write({**state.read(), "kind": "native"})

    assert main(["--stack", state.name, "fault", "cut", "auth", "redis"]) == 1
    assert "local processes share one network; `up --containers`" in capsys.readouterr().err


def test_the_target_file_offers_each_way(tmp_path: Path) -> None:
    """Every service and the gateway, each dependency; the commands are those of this stack."""
    values = target_file.faults(tmp_path, "one", network_faults.WAYS)
    written = tomllib.loads(target_file.render({"faults": values}))["faults"]

    assert {part: set(ways) for part, ways in written.items()} == {
        "gateway": {"rabbitmq", "redis"},
        **{name: {"rabbitmq", "redis", f"postgres-{name}"} for name in SERVICES},
    }
    cut = shlex.split(written["auth"]["postgres-auth"]["cut"])
    assert cut[-6:] == ["--stack", "one", "fault", "cut", "auth", "postgres-auth"]


@pytest.mark.parametrize(
    ("part", "dependency"),
    [("admin", "postgres-auth"), ("gateway", "postgres-auth"), ("edge", "gateway")],
)
def test_only_ways_that_exist_can_be_disturbed(part: str, dependency: str) -> None:
    """What a part never talks to cannot be taken from it."""
    with pytest.raises(UnknownPart, match=f"{part} does not talk to {dependency}"):
        network_faults.port_of(part, dependency)


def test_ways_go_by_the_ports_of_compose() -> None:
    """Each part finds its dependency at the port that is disturbed, and nobody else there."""
    services = yaml.safe_load(compose.FILE.read_text("utf-8"))["services"]
    for (part, dependency), port in network_faults.WAYS.items():
        addresses = [str(value) for value in services[part]["environment"].values()]
        met = {
            name
            for name in services
            for text in addresses
            if f"@{name}:{port}/" in text or f"//{name}:{port}/" in text
        }
        assert met == {dependency}, (part, dependency)


def test_the_forwarder_passes_bytes_and_ends_on() -> None:
    """What goes in comes out, both ways, and so does the end of each direction."""
    with (
        socket.create_server(("127.0.0.1", 0)) as far,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        port = taken.getsockname()[1]
        taken.close()
        serve = threading.Thread(
            target=lent_place.serve, args=(port, far.getsockname()), daemon=True
        )
        serve.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                near = socket.create_connection(("127.0.0.1", port), 5)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
        far.settimeout(10)
        met, _ = far.accept()
        with near, met:
            near.sendall(b"ping")
            assert met.recv(10) == b"ping"
            met.sendall(b"pong")
            assert near.recv(10) == b"pong"
            near.close()
            met.settimeout(10)
            assert met.recv(10) == b""


def test_the_relay_leads_to_each_member() -> None:
    """By ports that nobody else has, published all, each to one container."""
    base = yaml.safe_load(compose.FILE.read_text("utf-8"))["services"]["relay"]["ports"]
    added = relayed.additions("p", 3)["services"]["relay"]  # and one more, who may come later
    published = {int(port.split("::")[1]) for port in (*base, *added["ports"])}
    inner = relayed.inner_ports(3)
    places = relay.places(added["environment"]["PLACES"])

    assert len(set(inner.values())) == len(inner)
    assert set(inner.values()) <= published
    assert len(published) == len(base) + len(added["ports"])
    assert {places[inner[name]] for name in ("auth", "auth-2", "auth-3")} == {
        "p-auth-1:3001",
        "p-auth-2:3001",
        "p-auth-3:3001",
    }
    assert places[inner["gateway-2"]] == "p-gateway-2:3000"
    as_client = relay.places(added["environment"]["PLACES_AS_CLIENT"])
    assert as_client[inner["relay-gateway-2"]] == "p-gateway-2:3000"
    assert as_client.keys().isdisjoint(places)
    assert relayed.used(inner, ["auth", "payments-1", "payments-2", "admin", "gateway"]) == {
        name: port
        for name, port in inner.items()
        if name not in ("profile", "relay-gateway-2", "relay-gateway-3", "relay-gateway-4")
        and (name == "payments-2" or not name.endswith(("-2", "-3", "-4")))
    }


def test_logs_are_followed_over_a_restart(state: StateFolder, fake: FakeEngine) -> None:
    """The end of the past, then what is written, in this life of the container and the next."""
    lives = iter([[b"a\n", b"b\n"], [b"c\n"]])

    class Enough(Exception):
        """Ends what goes on until somebody ends it."""

    written = io.StringIO()
    printer = container_logs.Printer(written)
    with pytest.raises(Enough):
        container_logs.follow_one(
            "payments", "abcdef0123456789", printer, _until(lives, Enough), pause=0.0
        )

    assert written.getvalue() == "==> payments <==\na\nb\nc\n"


def _until(lives: Iterator[list[bytes]], end: type[Exception]) -> Any:
    def follow(container: str, since: float) -> Iterator[bytes]:
        try:
            yield from next(lives)
        except StopIteration:
            raise end from None

    return follow


def test_prefixes_are_those_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the engine, of either form, and routes of the machine are left alone."""
    subnets = ["10.200.0.0/16", "10.202.7.0/24", "fd00::/64", "172.17.0.0/16"]
    listed = [{"IPAM": {"Config": [{"Subnet": subnet}]}} for subnet in subnets]
    monkeypatch.setattr(engine, "networks", lambda labels: [*listed, {"IPAM": {"Config": None}}])
    monkeypatch.setattr(composing, "_routes", lambda: [ipaddress.IPv4Network("10.203.0.0/16")])
    assert composing.free_prefixes() == ("10.201", "10.204")

    listed.append({"IPAM": {"Config": [{"Subnet": "10.0.0.0/8"}]}})
    with pytest.raises(StackError, match="docker network prune"):
        composing.free_prefixes()


def test_without_an_engine_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No fallback: whoever asks for containers gets containers or is told how to."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    stack = containers.Stack("never-started")

    with pytest.raises(NotInstalled, match=r"unix:///nowhere.*python -m system engine up"):
        stack.up()

    assert not stack.state.exists()
    assert main(["--stack", "never-started", "up", "--containers"]) == 1
    assert "python -m system engine up" in capsys.readouterr().err


def test_a_trial_in_containers_never_falls_back(tmp_path: Path) -> None:
    """`--stack containers` without an engine is wrong usage (4), and starts nothing."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "suites/", "--stack", "containers"),
            *("--criterion", "https-redirect", "--run-folder", str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "DOCKER_HOST": NOWHERE},
    )

    assert answer.returncode == 4, answer.stdout + answer.stderr
    assert "python -m system engine up" in answer.stdout + answer.stderr


def test_what_a_lost_folder_left_is_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Projects of ours without a folder go; those with one, and others', stay."""
    import os

    mine, others = f"seatrial-{os.getuid()}-0123456789", "seatrial-4242-0123456789"
    kept = StateFolder("kept-by-its-folder")
    kept.create()
    try:
        label = container_acts.PROJECT_LABEL
        listed = [{"Labels": {label: name}} for name in (mine, others, kept.path.name)]
        monkeypatch.setattr(engine, "reachable", lambda: True)
        monkeypatch.setattr(engine, "containers", lambda labels: [*listed, {"Labels": {}}])
        monkeypatch.setattr(engine, "networks", lambda labels: [])
        removed: list[str] = []
        monkeypatch.setattr(containers, "remove", removed.append)

        assert containers.sweep() == [mine]
        assert removed == [mine]
    finally:
        kept.remove()


def test_nobody_is_watched_while_a_trial_measures() -> None:
    """compose.trial.yaml takes every health check away, and every wait for one."""
    base = yaml.safe_load(compose.FILE.read_text("utf-8"))["services"]
    trial = yaml.safe_load(composing.TRIAL_FILE.read_text("utf-8"))["services"]
    ours = {
        name: service
        for name, service in base.items()
        if not service.get("profiles") or {"trial", "migration"} & set(service["profiles"])
    }

    # `schema` runs once and has none.
    watched = [
        name
        for name in ours
        if name != "schema" and trial[name]["healthcheck"] != {"disable": True}
    ]
    waiting = [
        (name, needed)
        for name, service in ours.items()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
        and trial[name].get("depends_on", {}).get(needed) != {"condition": "service_started"}
    ]

    assert watched == []
    assert waiting == []
    assert trial.keys() <= base.keys()
