"""The workloads: their mix, their order, their seeds, and the people they are made for."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from harness.probe import CouldNotObserve
from harness.target import Account, Addresses, Http, Target
from loadtests.engine.plan import Request, decode, encode
from loadtests.tests.stand_in import Behaviour, Seen, StandIn, answer, stand_in
from loadtests.workloads.__main__ import main
from loadtests.workloads.population import (
    Member,
    Population,
    exempt_addresses,
    renew,
    settle,
)
from loadtests.workloads.read_mostly import READ_GROUPS, read_mostly
from loadtests.workloads.standard import login_plan, mix, standard_plan


def member(number: int, payments: int = 2) -> Member:
    """A made-up person."""
    return Member(
        email=f"u{number}@example.test",
        password="secret",
        user_id=f"id-{number}",
        access_token=f"token-{number}",
        payments=tuple(f"payment-{number}-{k}" for k in range(payments)),
    )


def people(count: int = 60, *, admin: bool = True) -> Population:
    """A made-up population."""
    return Population(
        origin="https://localhost:1",
        ca="",
        addresses=("127.0.0.2",),
        members=tuple(member(number) for number in range(count)),
        admin=member(999) if admin else None,
        sizes={"payments-list": 5000},
    )


def test_the_standard_mix_is_as_documented() -> None:
    """Each group has its documented share, and at 50/s for 60 s more than 299 places."""
    plan = standard_plan(people(), rate=50, seconds=60, prefix="t")
    shares = mix(plan)
    documented = {
        "auth-me": 4,
        "payments-list": 6,
        "payments-detail": 3,
        "payments-create": 3,
        "profile": 3,
        "graphql": 3,
        "audit-list": 3,
        "payments-report": 3,
    }
    assert set(shares) == set(documented)
    for group, of_28 in documented.items():
        assert shares[group] == pytest.approx(of_28 / 28, abs=0.01)
    assert min(shares.values()) * 3000 >= 310
    assert plan.journey_steps == 7.0
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_documented_table_is_the_mix() -> None:
    """The numbers in the module's text are those of the plan."""
    text = (Path(__file__).parents[1] / "workloads" / "standard.py").read_text()
    table = {group: int(n) for group, n in re.findall(r"\| (\S+) \| (\d+) of 28 \|", text)}
    plan = standard_plan(people(), rate=280, seconds=100, prefix="t")
    assert {g: round(share * 28) for g, share in mix(plan).items()} == table


def test_one_seed_gives_one_plan_and_another_gives_another() -> None:
    """Repeatable, and different where it is meant to be."""
    first, again = (standard_plan(people(), rate=50, seconds=10, prefix="t") for _ in range(2))
    other = standard_plan(people(), rate=50, seconds=10, prefix="t", seed=2)
    assert first == again
    assert [first.requests[i].path for i in first.order] != [
        other.requests[i].path for i in other.order
    ]


def test_steps_of_a_journey_come_in_their_order() -> None:
    """With one person under way at a time, who-am-I comes before a list, a list before a pay."""
    plan = standard_plan(people(), rate=100, seconds=60, prefix="t")
    by_token: dict[str, list[str]] = {}
    for index in plan.order:
        request = plan.requests[index]
        by_token.setdefault(dict(request.headers)["Authorization"], []).append(request.group)
    journey = ["auth-me", "payments-list", "payments-detail", "payments-create"]
    journey += ["payments-list", "profile", "graphql"]
    # 60 people, some 200 journeys, 20 under way: a person's journeys rarely overlap.
    first = [groups[:7] for token, groups in by_token.items() if token != "Bearer token-999"]
    assert sum(groups == journey[: len(groups)] for groups in first) >= 0.9 * len(first)


def test_every_request_says_what_its_answer_holds() -> None:
    """No request of any workload could be satisfied by just any 200."""
    plans = (
        standard_plan(people(), rate=50, seconds=20, prefix="t"),
        read_mostly(people(100), rate=50, seconds=20, prefix="t").plan,
        login_plan(people(), rate=2, seconds=5),
    )
    for plan in plans:
        for request in plan.requests:
            assert request.expect_body
            assert request.expect_status == ((201,) if "create" in request.group else (200,))
        assert decode(encode(plan)) == plan


def test_without_an_admin_his_journey_is_left_out() -> None:
    """The rest keeps its proportions."""
    plan = standard_plan(people(admin=False), rate=50, seconds=60, prefix="t")
    assert not {"audit-list", "payments-report"} & set(mix(plan))
    assert plan.journey_steps == 7.0


def test_steps_without_their_part_are_left_out() -> None:
    """What the target declares absent is not asked for, and the others are."""
    absent = {"graphql": "not built", "payments-report": "not built"}
    population = msgspec.structs.replace(people(), absent=absent)
    plan = standard_plan(population, rate=50, seconds=60, prefix="t")
    assert set(mix(plan)) == {
        *("auth-me", "payments-list", "payments-detail", "payments-create"),
        *("profile", "audit-list"),
    }
    assert plan.journey_steps == (3 * 6 + 4) / 4


def test_nobody_pays_himself() -> None:
    """Also with only two people."""
    for plan in (
        standard_plan(people(2), rate=50, seconds=20, prefix="t"),
        read_mostly(people(2), rate=50, seconds=20, prefix="t").plan,
    ):
        for request in plan.requests:
            if request.group == "payments-create":
                sender = dict(request.headers)["Authorization"].removeprefix("Bearer token-")
                assert json.loads(request.body or b"")["recipientId"] != f"id-{sender}"


def test_log_ins_are_apart() -> None:
    """One request per person, each with its own password."""
    plan = login_plan(people(5), rate=2, seconds=5)
    assert plan.groups == ("auth-login",)
    assert len(plan.requests) == 5


def test_the_read_mostly_workload_is_as_promised() -> None:
    """At least 50 people, 500 distinct reads, 95 to 5, Zipf's law, and a possible gate."""
    workload = read_mostly(people(100), rate=150, seconds=40, prefix="t")
    plan = workload.plan
    assert workload.users == 100
    assert workload.distinct_reads == 500
    assert (workload.reads, workload.writes) == (5700, 300)
    assert plan.watch_header == "x-cache"
    assert set(plan.groups) == {*READ_GROUPS, "payments-create"}
    counts = Counter(i for i in plan.order if plan.requests[i].group != "payments-create")
    ranked = [count for _, count in counts.most_common()]
    expected = 5700 / sum(1 / k**1.2 for k in range(1, 501))
    assert ranked[0] == pytest.approx(expected, rel=0.15)
    assert sum(ranked[:10]) == pytest.approx(
        expected * sum(1 / k**1.2 for k in range(1, 11)), rel=0.1
    )
    assert 0.84 < workload.ideal < 0.95


def test_the_ideal_cache_knows_what_a_payment_invalidates() -> None:
    """Many writes leave few hits on payments, none at all leave only cold misses."""
    population = people(100)
    calm = read_mostly(population, rate=150, seconds=400, prefix="t", exponent=1.2)
    assert calm.ideal > read_mostly(population, rate=15, seconds=40, prefix="t").ideal


def test_exempt_addresses_come_from_addresses_and_networks() -> None:
    """A network gives its first hosts."""
    target = Target(
        schema=1,
        http=Http(origin="https://localhost"),
        addresses=Addresses(exempt=("127.0.0.2", "127.0.2.0/24")),
    )
    assert exempt_addresses(target, 3) == ("127.0.0.2", "127.0.2.1", "127.0.2.2")
    assert exempt_addresses(Target(schema=1, http=Http(origin="https://x"))) == ()


class Platform:
    """A platform as far as a population needs one."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {"admin@example.test": "admin-id"}
        self.payments = 0
        self.audit_asked = 0
        self.refuse: dict[str, int] = {}
        self.time_outs = 0

    async def behave(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        status, data = self._answer(seen)
        if refused := self.refuse.get(seen.path.partition("?")[0]):
            status, data = refused, "refused"
        body = json.dumps({"success": status < 400, "data": data}).encode()
        writer.write(answer(body, status=status, headers="Content-Type: application/json\r\n"))

    def _answer(self, seen: Seen) -> tuple[int, object]:
        if seen.path == "/api/auth/register":
            email = json.loads(seen.body)["email"]
            if email in self.users:
                return 409, "taken"
            self.users[email] = f"id-{len(self.users)}"
            if self.time_outs > 0:  # it has had its effect all the same
                self.time_outs -= 1
                return 504, "timed out"
            return 201, self._session(email)
        if seen.path == "/api/auth/login":
            return 200, self._session(json.loads(seen.body)["email"])
        if seen.path.startswith("/api/admin/audit-logs"):
            self.audit_asked += 1
            # It lags behind, as a projection does.
            return 200, {"auditLogs": [{"id": 1}] if self.audit_asked > 2 else []}
        if seen.path == "/api/payments" and seen.method == "POST":
            self.payments += 1
            return 201, {"id": f"payment-{self.payments}"}
        return 200, {"id": "x" * 500}

    def _session(self, email: str) -> object:
        tokens = {"accessToken": f"access-{email}", "refreshToken": "r", "expiresIn": "15m"}
        return {"user": {"id": self.users[email], "email": email}, **tokens}


@contextmanager
def platform() -> Iterator[tuple[Platform, StandIn, Target]]:
    """A running fake platform and its target file."""
    fake = Platform()
    behaviour: Behaviour = fake.behave
    with stand_in(behaviour) as server:
        target = Target(
            schema=1,
            http=Http(origin=server.origin),
            addresses=Addresses(exempt=("127.0.0.2",)),
            accounts={"admin": Account(email="admin@example.test", password="p")},
        )
        yield fake, server, target


def test_a_population_settles() -> None:
    """People with distinct ids, tokens and payments, an admin, sizes; all from the address."""
    with platform() as (fake, server, target):
        population = settle(target, prefix="Run7", users=5, payments_each=2)
        assert {seen.peer for seen in server.seen} == {"127.0.0.2"}
    assert len({m.user_id for m in population.members}) == 5
    assert all(m.email.startswith("run7-load-") for m in population.members)
    assert len({payment for m in population.members for payment in m.payments}) == 10
    assert fake.payments == 10
    assert population.admin is not None
    assert fake.audit_asked >= 3
    assert population.absent == {}
    assert population.sizes["payments-list"] > 500
    created = [json.loads(s.body) for s in server.seen if s.path == "/api/payments"]
    assert all(body["description"].startswith("Run7") for body in created if body)


def test_populations_of_one_run_do_not_collide() -> None:
    """Three criteria settle with the same prefix; and a time-out that had its effect is no end."""
    with platform() as (fake, _, target):
        first = settle(target, prefix="run", users=3, payments_each=0)
        fake.time_outs = 1
        second = settle(target, prefix="run", users=3, payments_each=0)
    emails = {m.email for m in (*first.members, *second.members)}
    assert len(emails) == 6
    assert all(email.startswith("run-load-") for email in emails)


def test_fresh_tokens_keep_people_and_payments() -> None:
    """`renew` logs everybody in again."""
    with platform() as (_, _, target):
        population = settle(target, prefix="run", users=3, payments_each=1)
        again = renew(population)
    assert [m.payments for m in again.members] == [m.payments for m in population.members]
    assert [m.user_id for m in again.members] == [m.user_id for m in population.members]
    assert again.admin is not None


@pytest.mark.parametrize("path", ["/api/auth/register", "/api/payments", "/api/auth/login"])
def test_a_refusal_is_said_with_status_and_path(path: str) -> None:
    """A target that limits or refuses the preparation cannot be judged, and says why."""
    with platform() as (fake, _, target):
        fake.refuse[path] = 429
        with pytest.raises(CouldNotObserve, match=f"{path} answered 429"):
            settle(target, prefix="run", users=2, payments_each=1)


def test_a_dead_target_is_said() -> None:
    """No answer is a reason as well."""
    target = Target(schema=1, http=Http(origin="http://127.0.0.1:1"))
    with pytest.raises(CouldNotObserve, match="got no answer"):
        settle(target, prefix="run", users=2, payments_each=1)


def test_one_person_is_not_enough() -> None:
    """A payment needs a recipient."""
    with pytest.raises(ValueError, match="at least 2"):
        settle(Target(schema=1, http=Http(origin="http://x")), prefix="r", users=1, payments_each=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parts": {"audit-log": "not built yet"}}, "not built yet"),
        ({"accounts": {}}, "no [accounts.admin]"),
    ],
)
def test_an_absent_group_has_its_reason(changes: dict[str, object], reason: str) -> None:
    """Without audit log or admin the population says so and the workload leaves it out."""
    with platform() as (_, _, target):
        population = settle(
            msgspec.structs.replace(target, **changes), prefix="r", users=2, payments_each=2
        )
    assert reason in population.absent["audit-list"]
    assert population.admin is None


def test_the_command_says_what_is_wrong_with_a_target_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the reason, and no plan."""
    plan_file, target_file = tmp_path / "plan", tmp_path / "target.toml"
    target_file.write_text('schema = 1\n[http]\norigin = "http://localhost"\n')
    assert main([str(target_file), str(plan_file)]) == 2
    assert "expected https" in capsys.readouterr().err
    assert not plan_file.exists()


def test_the_command_writes_a_private_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m loadtests.workloads TARGET PLAN` prints the mix; only the owner reads the plan."""
    plan_file, target_file = tmp_path / "plan", tmp_path / "target.toml"
    fake = Platform()
    with stand_in(fake.behave, tls_folder=tmp_path) as server:
        target_file.write_text(
            f'schema = 1\n[http]\norigin = "{server.origin}"\nca = "{server.ca}"\n'
            '[accounts.admin]\nemail = "admin@example.test"\npassword = "p"\n'
        )
        code = main([str(target_file), str(plan_file), "--users", "3"])
    assert code == 0
    assert plan_file.stat().st_mode & 0o077 == 0
    plan = decode(plan_file.read_bytes())
    assert plan.origin == server.origin
    assert {request.group for request in plan.requests} == set(mix(plan))
    assert "payments-list: 21" in capsys.readouterr().out


def test_distinct_requests_are_kept_once() -> None:
    """A plan for an hour is not larger than its distinct requests and its order."""
    plan = standard_plan(people(), rate=50, seconds=3600, prefix="t")
    assert len(plan.order) == 180_000
    assert len(set(plan.requests)) == len(plan.requests)
    assert isinstance(plan.requests[0], Request)
    assert len(encode(plan)) < 40_000_000
