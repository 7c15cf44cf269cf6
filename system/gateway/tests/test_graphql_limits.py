"""What a document may ask for, and how places in a list are found (R10.3, R10.5, R10.6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, parse

from system.gateway.domain.paging import BadCursor, Cursor, pages, read_cursor
from system.gateway.entrypoints.graphql.limits import Gauge, TooMuch

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
