"""Gateways are marked down and up again in a configuration that is otherwise left as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from system.edge import variants
from system.edge.members import with_down
from system.edge.render import render

ONE, TWO = "127.0.0.1:3000", "127.0.0.1:13000"


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A configuration with two gateways."""
    return render(replace(variants.plain(tmp_path), gateways=(ONE, TWO)))


def test_one_is_marked_down_and_nginx_takes_it(text: str, tmp_path: Path) -> None:
    """The line of that gateway says so, the other's does not."""
    marked = with_down(text, [ONE])

    changed = [line.strip() for line in marked.splitlines() if line not in text.splitlines()]
    assert len(changed) == 1
    assert changed[0].startswith(f"server {ONE} max_fails=0 down;")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(marked, encoding="utf-8")
    assert variants.complaint(configuration) == ""


def test_with_nobody_down_it_is_as_it_was(text: str) -> None:
    """Whatever was marked before."""
    assert with_down(with_down(text, [TWO]), []) == text
    assert with_down(with_down(text, [TWO]), [ONE]) == with_down(text, [ONE])


def test_a_stranger_is_refused(text: str) -> None:
    """A change that changes nothing would let the caller believe it did."""
    with pytest.raises(ValueError, match=r"no gateway 127\.0\.0\.1:3001"):
        with_down(text, ["127.0.0.1:3001"])


def test_somebody_stays(text: str) -> None:
    """An edge without any gateway serves nobody."""
    with pytest.raises(ValueError, match="all gateways would be down"):
        with_down(text, [ONE, TWO])
