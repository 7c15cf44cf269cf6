"""What the guard in Schemathesis' process is told by the one that starts it."""

from __future__ import annotations

from typing import Final

import msgspec

VARIABLE: Final = "SEATRIAL_CONTRACT_GUARD"  # of the environment: path of the settings file


class Person(msgspec.Struct, frozen=True):
    """Somebody of this run."""

    id: str
    email: str
    password: str


class Settings(msgspec.Struct, frozen=True):
    """What the guard is told.

    Attributes:
        origin, ca: of the target.
        address: source address of every request; empty: the system's choice.
        prefix: begins every name that the guard gives.
        journal: file to which a line is added for whatever is made or led elsewhere.
        password: of everybody whom the guard registers.
        visitor: logs in and refreshes. decoy: is paid.
        protected: ids and addresses that no write may reach.
        identities: operation → who asks; nobody else is tried.
        most: cases of an operation in the coverage phase, valid and invalid ones each.
        parent: process without which this one has no purpose.
        webhook_secret: signs payment notices; empty: they stay unsigned.
    """

    origin: str
    ca: str
    address: str
    prefix: str
    journal: str
    password: str
    visitor: Person
    decoy: Person
    protected: tuple[str, ...]
    identities: dict[str, str]
    most: int
    parent: int
    webhook_secret: str = ""
