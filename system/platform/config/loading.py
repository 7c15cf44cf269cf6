"""Reads the environment once and refuses a bad one with all its faults (R0.13, R0.14)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from system.platform.config.encryption import decrypt
from system.platform.config.faults import ConfigurationError, Fault
from system.platform.config.production import production_faults
from system.platform.config.settings import NAMES, READERS, Settings
from system.platform.config.values import Unusable, encryption_key
from system.platform.config.variables import (
    STANDS_FOR,
    VARIABLES,
    Environ,
    Variable,
    is_production,
)


def load(service: str, environ: Mapping[str, str]) -> Settings:
    """Read the variables that a process reads.

    Args:
        service: its short name, one of `READERS`.
        environ: the environment; blank values count as not set.

    Returns:
        The settings, complete and checked.

    Raises:
        ConfigurationError: names every faulty variable at once (R0.14).
    """
    if service not in READERS:
        raise ValueError(f"seen service {service!r}, expected one of {', '.join(READERS)}")
    faults: list[Fault] = []
    production = is_production(environ)
    given = _in_the_clear(environ, service, faults)
    # A default that is drawn from another variable fails with it; told only if nobody else tells.
    derived: list[Fault] = []
    values: dict[str, Any] = {}
    broken = {fault.variable for fault in faults}
    for variable in VARIABLES:
        if service not in variable.readers or variable.name in broken:
            continue
        text = given.get(variable.name)
        if text is None:
            text = _default(variable, given, production=production)
        if text is None:
            if variable.required:
                faults.append(Fault(variable.name, f"not set; expected: {variable.meaning}"))
            continue
        try:
            values[variable.attribute] = variable.read(text)
        except Unusable as error:
            (faults if variable.name in given else derived).append(Fault(variable.name, str(error)))
    if production:
        faults.extend(production_faults(service, given))
    if faults or derived:
        raise ConfigurationError(_once(faults or derived))
    return Settings(
        service=service,
        service_name=NAMES.get(service, service),
        production=production,
        **values,
    )


def load_or_exit(service: str, environ: Mapping[str, str] | None = None) -> Settings:
    """As `load` for a process's entry: on faults print them all and exit with 2 (R0.14)."""
    try:
        return load(service, os.environ if environ is None else environ)
    except ConfigurationError as error:
        _refuse(f"{NAMES.get(service, service)} does not start. {error}")


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    raise SystemExit(2)


def _once(faults: list[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


def _in_the_clear(environ: Environ, service: str, faults: list[Fault]) -> dict[str, str]:
    """Return the variables that are set and that `service` reads, decrypted."""
    names = {variable.name for variable in VARIABLES if service in variable.readers}
    # Defaults of other variables are derived from these.
    names |= {"EDGE_HTTPS_PORT", *(variable.name for variable in VARIABLES if _is_port(variable))}
    given = {
        name: value.strip() for name, value in environ.items() if name in names and value.strip()
    }
    key: bytes | None = None
    if "SECRETS_ENCRYPTION_KEY" in given:
        try:
            key = encryption_key(given["SECRETS_ENCRYPTION_KEY"])
        except Unusable:
            key = None  # reported by its own row
    for name, value in given.items():
        try:
            given[name] = decrypt(value, key)
        except Unusable as error:
            faults.append(Fault(name, str(error)))
    return given


def _is_port(variable: Variable) -> bool:
    return variable.attribute == "port"


def _default(variable: Variable, given: Environ, *, production: bool) -> str | None:
    if variable.secret and production:
        return None
    if variable.name in STANDS_FOR and STANDS_FOR[variable.name] in given:
        # The development key must not join a ring that was given on purpose.
        return None
    return variable.default(given) if callable(variable.default) else variable.default
