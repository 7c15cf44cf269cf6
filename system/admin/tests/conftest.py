"""Fixtures that several tests of admin share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from system.admin.tests.platform_client import Person, Stack, register, sign_in


@pytest.fixture
def admin(stack: Stack) -> Iterator[Person]:
    """The seeded administrator, signed in."""
    person = sign_in(stack, "admin")
    yield person
    person.close()


@pytest.fixture
def newcomer(stack: Stack) -> Iterator[Callable[[], Person]]:
    """Makes people who have just registered."""
    made: list[Person] = []

    def make() -> Person:
        made.append(register(stack))
        return made[-1]

    yield make
    for person in made:
        person.close()
