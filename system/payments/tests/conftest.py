"""Gives the tests of payments people who are logged in to the running platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from system.payments.tests.callers import Provider, Stack, User, newcomer


@pytest.fixture
def login(stack: Stack) -> Iterator[Callable[[str], User]]:
    users: list[User] = []

    def make(role: str) -> User:
        users.append(User(stack, stack.account(role)))
        return users[-1]

    yield make
    for user in users:
        user.close()


@pytest.fixture
def customer(login: Callable[[str], User]) -> User:
    return login("customer")


@pytest.fixture
def vendor(login: Callable[[str], User]) -> User:
    return login("vendor")


@pytest.fixture
def admin(login: Callable[[str], User]) -> User:
    return login("admin")


@pytest.fixture
def provider(stack: Stack) -> Provider:
    return Provider(stack)


@pytest.fixture
def register(stack: Stack) -> Iterator[Callable[[], User]]:
    """Makes somebody new at each call."""
    users: list[User] = []

    def make() -> User:
        users.append(newcomer(stack))
        return users[-1]

    yield make
    for user in users:
        user.close()
