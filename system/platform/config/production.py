"""What production mode does not start with: weak secrets, well-known credentials (R0.14)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from system.platform.config import values
from system.platform.config.faults import Fault
from system.platform.config.settings import PROCESSES
from system.platform.config.variables import LISTS, STANDS_FOR, VARIABLES, Environ, Variable

# R0.14
MINIMUM_SECRET_CHARACTERS: Final = 32
WEAK_PARTS: Final = (
    "change-in-production",
    "change-me",
    "your-secret",
    "default-secret",
    "test-secret",
    "development-only",
    "123456",
)
_FORBIDDEN_CREDENTIALS: Final = ("guest:guest",)
_DEMO_CREDENTIALS: Final = ("admin:admin", "postgres:postgres")


def production_faults(service: str, given: Environ) -> Iterable[Fault]:
    """Find what is against a start.

    Args:
        service: short name of the process.
        given: what it reads, in the clear.
    """
    for variable in VARIABLES:
        if service not in variable.readers:
            continue
        value = given.get(variable.name)
        if variable.secret:
            yield from _secret_faults(variable, value, given, service)
        elif value is not None and _carries_credentials(variable):
            yield from _credential_faults(variable.name, value, given)
        elif value is None and variable.name == "RABBITMQ_URL":
            yield from _credential_faults(variable.name, str(variable.default), given)


def _secret_faults(
    variable: Variable, value: str | None, given: Environ, service: str
) -> Iterable[Fault]:
    name = variable.name
    if value is None:
        if name in LISTS or (name in STANDS_FOR and STANDS_FOR[name] in given):
            return
        if service not in PROCESSES:
            # Tools need the key only to decrypt, which reports its absence itself.
            return
        instead = f" (or {STANDS_FOR[name]})" if name in STANDS_FOR else ""
        yield Fault(name, f"not set{instead}; production mode needs it")
        return
    secrets = {"": value}
    if name in LISTS:
        try:
            secrets = {
                f"key {entry.get('kid')!r}: ": str(entry.get("secret", ""))
                for entry in values.key_entries(value)
                if isinstance(entry, dict)
            }
        except values.Unusable:
            return  # reported by its own row
    for where, secret in secrets.items():
        if len(secret) < MINIMUM_SECRET_CHARACTERS:
            yield Fault(
                name,
                f"{where}seen {len(secret)} characters, "
                f"expected at least {MINIMUM_SECRET_CHARACTERS}",
            )
        yield from (
            Fault(name, f"{where}contains {weak!r}; generate a random one")
            for weak in WEAK_PARTS
            if weak in secret.lower()
        )


def _carries_credentials(variable: Variable) -> bool:
    return variable.name == "RABBITMQ_URL" or variable.name.endswith("DATABASE_URL")


def _credential_faults(name: str, url: str, given: Environ) -> Iterable[Fault]:
    demo_allowed = given.get("ALLOW_DEMO_CREDENTIALS", "").lower() in values.TRUE
    for pair in _FORBIDDEN_CREDENTIALS:
        if pair in url:
            yield Fault(name, f"carries {pair}; give the process a user of its own")
    for pair in _DEMO_CREDENTIALS:
        if pair in url and not demo_allowed:
            yield Fault(
                name,
                f"carries {pair}; give the process a user of its own, "
                "or set ALLOW_DEMO_CREDENTIALS=true on a demonstration system",
            )
