"""Each rule of the contract that a client can see is judged by a test that its number names.

A test's name gives its rules: ``test_r1_57_…``, ``test_r1_140_r3_40_…``, and for neighbours
``test_r1_86_to_r1_88_…``.  A criterion gives them in its ``rules``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("system", "suites", "loadtests", "defects")
# Section of the contract → how many rules it has, numbered from 1.  Section 8 is the front end's,
# section 11 the criteria's own.
_RULES = {0: 19, 1: 154, 2: 25, 3: 55, 4: 35, 5: 32, 6: 22, 7: 21, 9: 14, 10: 9}
_NO_CLIENT_SEES = {
    "R0.1": "how rules are written",
    "R0.2": "how rules are written",
    "R0.3": "what a word of other rules means",
    "R0.8": "what an edge may do",
    "R4.33": "the client's side, which comes with the front end",
    "R4.34": "the client's side, which comes with the front end",
    "R4.35": "the client's side, which comes with the front end",
}
_RANGE = re.compile(r"r(\d+)_(\d+)(?:_to_r\1_(\d+))?(?=_|$)")


def rules_named(name: str) -> set[str]:
    """The rules that a test's name gives; none for a name that does not begin with one."""
    if not re.match(r"test_r\d+_\d", name):
        return set()
    return {
        f"R{section}.{number}"
        for section, first, last in _RANGE.findall(name)
        for number in range(int(first), int(last or first) + 1)
    }


def rules_of(source: str) -> set[str]:
    """The rules that a file's tests and its criterion name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= rules_named(node.name)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Criterion":
            rules = next((word.value for word in node.keywords if word.arg == "rules"), None)
            found |= {rule for rule in ast.literal_eval(rules or ast.Tuple([])) if rule[0] == "R"}
    return found


def _named() -> set[str]:
    files = (file for folder in _FOLDERS for file in (_ROOT / folder).rglob("test_*.py"))
    return set().union(*(rules_of(file.read_text(encoding="utf-8")) for file in files))


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("test_r1_57_one", {"R1.57"}),
        ("test_r1_140_r3_40_two", {"R1.140", "R3.40"}),
        ("test_r1_86_to_r1_88_three", {"R1.86", "R1.87", "R1.88"}),
        ("test_r1_8", {"R1.8"}),
        ("test_one_r1_57", set()),
        ("test_rows", set()),
    ],
)
def test_a_name_gives_its_rules(name: str, rules: set[str]) -> None:
    """One, several, or a range of neighbours."""
    assert rules_named(name) == rules


def test_a_criterion_gives_its_rules() -> None:
    """By the keyword of its declaration."""
    source = (
        "C = Criterion(id='x', rules=('R1.57', 'R11.4'))\ndef test_r2_5_x(): ...\nCriterion(id='y')"
    )

    assert rules_of(source) == {"R1.57", "R11.4", "R2.5"}


def test_each_rule_that_a_client_sees_is_named_by_a_test() -> None:
    """And no test names a rule that there is not."""
    rules = {f"R{section}.{n}" for section, last in _RULES.items() for n in range(1, last + 1)}
    named = {rule for rule in _named() if not rule.startswith("R11.")}

    assert named - rules == set()
    assert sorted(rules - named - _NO_CLIENT_SEES.keys()) == []
    assert sorted(named & _NO_CLIENT_SEES.keys()) == []
