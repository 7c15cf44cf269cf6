"""What a document may ask for, and how places in a list are found (R10.3, R10.5, R10.6)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, parse

from system.gateway.domain.paging import BadCursor, Cursor, pages, read_cursor
from system.gateway.entrypoints.graphql.endpoint import Refused
from system.gateway.entrypoints.graphql.limits import DOCUMENT_LIMIT, Gauge, TooMuch
from system.gateway.tests.test_graphql_session import entry

SCHEMA = build_schema((Path(__file__).parents[1] / "schema.graphql").read_text(encoding="utf-8"))
# Six levels of introspection are usual; they do not count.
INTROSPECTION = "{__schema{types{fields{type{ofType{ofType{ofType{ofType{ofType{name}}}}}}}}}}"


def refused(query: str, variables: Mapping[str, Any] | None = None) -> str | None:
    """The code of the refusal, None if there is none."""
    try:
        Gauge(SCHEMA, parse(query), variables or {}).check()
    except TooMuch as fault:
        return fault.code
    return None


def nested(levels: int) -> str:
    """So many fields inside each other; the limits come before the types are checked."""
    return "{" + "{".join("a" for _ in range(levels)) + "}" * levels


def listed(first: str, fields: int) -> str:
    """A connection: 1 + first × (edges + node + fields)."""
    names = ("id", "amount", "currency", "status", "type", "description", "createdAt")
    chosen = " ".join((names * 10)[:fields])
    return f"{{payments(input:{{first:{first}}}){{edges{{node{{{chosen}}}}}}}}}"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (nested(8), None),
        (nested(9), "QUERY_TOO_DEEP"),
        ("{a{b{...F}}} fragment F on User{c{d{e{f{g{h}}}}}}", None),
        ("{a{b{...F}}} fragment F on User{c{d{e{f{g{h{i}}}}}}}", "QUERY_TOO_DEEP"),
        ("{a{b{... on User{c{d{e{f{g{h{i}}}}}}}}}}", "QUERY_TOO_DEEP"),
        (listed("100", 47), None),  # 1 + 100 × 49 = 4,901
        (listed("100", 48), "QUERY_TOO_COMPLEX"),  # 1 + 100 × 50 = 5,001
        (listed("99", 48), None),
        ("{me{" + " ".join(f"a{i}:id" for i in range(10)) + "}}", None),
        ("{me{" + " ".join(f"a{i}:id" for i in range(11)) + "}}", "TOO_MANY_ALIASES"),
        ("{m:me{...F} n:me{...F}} fragment F on User{a:id b:id c:id d:id}", None),
        (
            "{m:me{...F} n:me{...F}} fragment F on User{a:id b:id c:id d:id e:id}",
            "TOO_MANY_ALIASES",
        ),
        ("{" + "me{id} " * 10 + "}", None),
        ("{" + "me{id} " * 11 + "}", "TOO_MANY_ROOT_FIELDS"),
        ("{...F ...F} fragment F on Query{" + "me{id} " * 6 + "}", "TOO_MANY_ROOT_FIELDS"),
        ("{me{" + "id " * 100 + "}}", None),
        ("{me{" + "id " * 101 + "}}", "QUERY_TOO_COMPLEX"),
        ("{me{" + "... on User{id}" * 101 + "}}", "QUERY_TOO_COMPLEX"),
        ("{me{" + "...F " * 101 + "}} fragment F on User{id}", "QUERY_TOO_COMPLEX"),
        ("{me{" + "id " * 50 + "} me{" + "id " * 50 + "}}", None),
        ("{me{" + "id " * 50 + "} me{" + "id " * 51 + "}}", "QUERY_TOO_COMPLEX"),
        ("{me{...F " + "id " * 99 + "}} fragment F on User{id}", None),
        ("{me{...F " + "id " * 100 + "}} fragment F on User{id}", "QUERY_TOO_COMPLEX"),
        ("{me{id}}" + " query{me{id}}" * 49, None),
        ("{me{id}}" + " query{me{id}}" * 50, "QUERY_TOO_COMPLEX"),
        ("{me{id}}" + " fragment F on User{id}" * 49, None),
        ("{me{id}}" + " fragment F on User{id}" * 50, "QUERY_TOO_COMPLEX"),
        ("{me{" + "...F " * 100 + "}} fragment F on User{id}", None),
        (
            "{me{" + "...F " * 50 + "...{" + "...F " * 51 + "}}} fragment F on User{id}",
            "QUERY_TOO_COMPLEX",
        ),
        ("{me{a{...F}}} fragment F on User{a{...F}}", None),  # not valid, which validation says
        (INTROSPECTION, None),
        ("{...F} fragment F on Query{...F}", None),  # not valid, which validation says
    ],
)
def test_r10_5_a_document_is_measured_before_it_runs(query: str, code: str | None) -> None:
    """At the limit it passes, one beyond it does not; fragments count where they are used."""
    assert refused(query) == code


def test_r10_5_fragments_in_fragments_do_not_cost_time() -> None:
    """Doubling thirty times gives a milliard of fields: measured at once, refused."""
    doubled = " ".join(f"fragment F{i} on User{{...F{i + 1} ...F{i + 1}}}" for i in range(30))
    query = f"{{me{{...F0}}}} {doubled} fragment F30 on User{{id}}"
    assert refused(query) == "QUERY_TOO_COMPLEX"


def test_r10_5_root_fields_doubled_by_fragments_do_not_cost_time() -> None:
    """The same at the root."""
    doubled = " ".join(f"fragment F{i} on Query{{...F{i + 1} ...F{i + 1}}}" for i in range(30))
    query = f"{{...F0}} {doubled} fragment F30 on Query{{me{{id}}}}"
    assert refused(query) == "TOO_MANY_ROOT_FIELDS"


def test_r10_5_fragments_that_lead_nowhere_do_not_cost_time() -> None:
    """Doubling forty times down to a fragment inside itself: not valid, and said at once."""
    doubled = " ".join(f"fragment F{i} on User{{...F{i + 1} ...F{i + 1}}}" for i in range(40))
    assert refused(f"{{me{{...F0}}}} {doubled} fragment F40 on User{{...F40}}") is None


def chain(links: int) -> str:
    """Fragments each of which uses the next one."""
    inner = " ".join(f"fragment F{i} on User{{id ...F{i + 1}}}" for i in range(links - 1))
    return f"{inner} fragment F{links - 1} on User{{id}}"


def beside(fragments: int, fields: str, parent: str) -> tuple[str, str]:
    """The uses of so many fragments, and the fragments."""
    uses = " ".join(f"...F{i}" for i in range(fragments))
    return uses, " ".join(f"fragment F{i} on {parent}{{{fields}}}" for i in range(fragments))


def hostile() -> dict[str, str]:
    """Documents of at most 10 kB that cost validation most, each for another reason."""
    flat = {n: beside(n, "id", "User") for n in (49, 99, 300)}
    related = beside(49, "sender{id} recipient{id}", "Payment")
    inner = "payments{" + ("edges{" + ("node{" + "id " * 10 + "}") * 8 + "}") * 4 + "}"
    unknown = " ".join(f"x{i}:{{}}" for i in range(1_000))
    return {
        "one name": "{" + ("me{" + "id " * 100 + "}") * 10 + "}",
        "one name below one name": "{" + inner * 8 + "}",
        **{f"{n} fragments": f"{{me{{{uses}}}}}{rest}" for n, (uses, rest) in flat.items()},
        "fragments in many places": "{" + f"me{{{flat[49][0]}}}" * 10 + "}" + flat[49][1],
        "fragments of objects": f"{{payments{{edges{{node{{{related[0]}}}}}}}}}{related[1]}",
        "operations on a chain": "query{me{...F0}}" * 60 + chain(60),
        "few operations on a chain": "query{me{...F0}}" * 17 + chain(33),
        "unknown members": f"{{payments(filter:{{{unknown}}}){{totalCount}}}}",
        "unknown fields": "{me{" + " ".join(f"x{i}{{id}}" for i in range(900)) + "}}",
        "variables": "query(" + " ".join(f"$v{i}:Int" for i in range(900)) + "){me{id}}",
        "directives": "{me{id " + "@skip(if:true)@include(if:true)" * 300 + "}}",
    }


# Calls of Python functions; the worst document took 4.9 million before there were limits.
WORK = 350_000


@pytest.mark.parametrize("name", hostile())
def test_r10_5_judging_a_document_is_bounded_work(name: str) -> None:
    """Whatever the document, its judgement takes so many calls of functions and no more."""
    query = hostile()[name]
    assert len(query) <= DOCUMENT_LIMIT
    calls = 0

    def count(_: object, happening: str, __: object) -> None:
        nonlocal calls
        calls += happening == "call"

    judge = entry(production=True).judge
    sys.setprofile(count)
    try:
        with contextlib.suppress(Refused):
            judge(query, {}, None)
    finally:
        sys.setprofile(None)

    assert 0 < calls < WORK


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("query($n:Int){payments(input:{first:$n}){edges{node{id}}}}", {"n": 100}, None),
        (
            "query($n:Int){payments(input:{first:$n}){edges{node{id}}}}",
            {"n": 2000},
            "QUERY_TOO_COMPLEX",
        ),
        (
            "query($n:Int=2000){payments(input:{first:$n}){edges{node{id}}}}",
            {},
            "QUERY_TOO_COMPLEX",
        ),
        (
            "query($i:PaginationInput){users(input:$i){edges{node{id}}}}",
            {"i": {"last": 2000}},
            "QUERY_TOO_COMPLEX",
        ),
    ],
)
def test_r10_5_variables_count(query: str, variables: dict[str, Any], code: str | None) -> None:
    """The size of a connection may come from a variable or its default."""
    assert refused(query, variables) == code


@pytest.mark.parametrize(
    "query",
    [
        "mutation{a:refreshToken(refreshToken:$t){expiresIn} b:refreshToken(refreshToken:$t){x}}",
        "mutation{login(input:{}){expiresIn} register(input:{}){expiresIn}}",
        "mutation A{login(input:{}){expiresIn}} mutation B{login(input:{}){expiresIn}}",
        "mutation{...F login(input:{}){expiresIn}} fragment F on Mutation{login(input:{}){x}}",
    ],
)
def test_r10_6_one_credential_operation_per_document(query: str) -> None:
    """Guessing cannot be done in bulk."""
    assert refused(query) == "TOO_MANY_ROOT_FIELDS"


@pytest.mark.parametrize("start", range(0, 230, 7))
@pytest.mark.parametrize("count", [1, 2, 10, 11, 99, 100, 101])
def test_r10_3_pages_hold_exactly_the_wanted_entries(start: int, count: int) -> None:
    """Whatever the stretch, the pages' wanted parts are it, in order, none twice."""
    entries = list(range(1000))
    found: list[int] = []
    for page in pages(start, count):
        assert 1 <= page.size <= 100
        shown = entries[(page.number - 1) * page.size : page.number * page.size]
        found += shown[page.start : page.end]
    assert found == entries[start : start + count]


def test_r10_3_a_cursor_comes_back() -> None:
    """What was written is read."""
    cursor = Cursor(123, "3f2504e0-4f89-41d3-9a0c-0305e82c3301")
    assert read_cursor(cursor.write()) == cursor


@pytest.mark.parametrize("text", ["", "x", "====", "é", "MTIz", Cursor(-1, "a").write(), "a b"])
def test_r10_3_what_is_no_cursor_is_refused(text: str) -> None:
    """Nothing else is taken for one."""
    with pytest.raises(BadCursor):
        read_cursor(text)
