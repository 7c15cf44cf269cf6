"""Payments with everything behind it in memory, for the tests of its use cases."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from system.payments.domain import Actor, ActorRole, Draft, PaymentType, Person
from system.payments.service.changes import PaymentChanges
from system.payments.service.commands import PaymentCommands
from system.payments.service.people import People
from system.payments.service.reading import PaymentReads
from system.payments.tests.fakes import FakeCache, FakeDirectory, FakeStore
from system.platform.http.errors import ApiError

CUSTOMER, VENDOR, OTHER = (str(uuid.uuid4()) for _ in range(3))
ADMIN = Actor(str(uuid.uuid4()), ActorRole.ADMIN)


def person(user_id: str, name: str, status: str = "active") -> Person:
    return Person(user_id, f"{name}@x.test", name, status, 1)


def draft(**changes: Any) -> Draft:
    values: dict[str, Any] = {
        "amount": Decimal("100.50"),
        "currency": "USD",
        "type": PaymentType.INSTANT,
        "description": "x",
        "recipient_id": VENDOR,
        "recipient_email": None,
        "metadata": None,
    }
    return Draft(**{**values, **changes})


class Desk:
    """Payments with everything behind it in memory."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.directory = FakeDirectory()
        self.cache = FakeCache()
        people = People(self.store, self.directory)
        self.commands = PaymentCommands(self.store, people, self.cache)
        self.changes = PaymentChanges(self.store, people, self.cache)
        self.reads = PaymentReads(self.store, self.cache)
        for known in (person(CUSTOMER, "c"), person(VENDOR, "v"), person(OTHER, "o")):
            self.store.people[known.id] = known

    async def paid(self, **changes: Any) -> str:
        created = await self.commands.create(CUSTOMER, draft(**changes), None)
        return str(created.data["id"])


def refused(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    return error.value.status, error.value.code
