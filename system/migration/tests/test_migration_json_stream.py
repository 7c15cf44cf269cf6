"""The stream reads what the library's own parser reads, however it is cut into pieces."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system.migration.adapters.json_stream import JsonStream, NotJson
from system.migration.adapters.ledger import Ledger


class Trickle(io.StringIO):
    """Gives a few characters at a time, whatever is asked for."""

    def __init__(self, text: str, pieces: int) -> None:
        super().__init__(text)
        self._pieces = pieces

    def read(self, size: int | None = -1, /) -> str:
        """Far less than asked for."""
        return super().read(self._pieces)


def walked(stream: JsonStream) -> dict[str, Any]:
    """An object, member by member, lists element by element."""
    found: dict[str, Any] = {}
    for key in stream.members():
        found[key] = list(stream.elements()) if key.startswith("list") else stream.value()
    stream.end()
    return found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(st.text().filter(lambda key: not key.startswith("list")), VALUES, max_size=4),
    st.lists(VALUES, max_size=6),
    st.integers(1, 9),
    st.sampled_from([None, 0, 2]),
)
def test_any_document_in_any_pieces(
    members: dict[str, Any], elements: list[Any], pieces: int, indent: int | None
) -> None:
    """Equal to what json.loads says."""
    document = {**members, "list": elements}
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    assert walked(JsonStream(Trickle(text, pieces))) == document


def test_what_is_not_taken_is_passed_over() -> None:
    """Members and their insides."""
    stream = JsonStream(io.StringIO('{"a": {"b": [1, 2]}, "c": 3}'))
    assert [key for key in stream.members() if key == "x"] == []
    stream.end()


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a":1}}', '{"a":1} x', "[]",
     '{"a" 1}', "{1:2}", '{"list":[1,}', '{"list":{}}', '{"a":NaN}', '{"a":"\n"}', '{"a":1 "b":2}'],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [1, 100])
def test_what_is_not_json_is_refused(text: str, pieces: int) -> None:
    """Cut off, with too much, or of another form."""
    with pytest.raises(NotJson):
        walked(JsonStream(Trickle(text, pieces)))


def test_the_ledger_finds_what_differs() -> None:
    """Missing, different, doubled, and surplus only if that counts."""
    with Ledger() as ledger:
        for row_id in ("equal", "missing", "different", "doubled"):
            ledger.expect("users", row_id, "1")
        ledger.expect("others", "missing", "1")
        for row_id, found in (("equal", "1"), ("different", "2"), ("doubled", "1"),
                              ("doubled", "1"), ("surplus", "1")):  # fmt: skip
            ledger.find("users", row_id, found)

        every = ledger.judge("users", surplus=True, most=10)
        assert [(one.row_id, one.problem) for one in every.differences] == [
            ("different", "differs"),
            ("doubled", "there 2 times"),
            ("missing", "missing"),
            ("surplus", "not expected"),
        ]
        some = ledger.judge("users", surplus=False, most=2)
        assert [one.row_id for one in some.differences] == ["different", "doubled"]
        assert (some.expected, some.found, some.differing) == (4, 3, 3)
        assert ledger.judge("nobody", surplus=True, most=1).differing == 0
