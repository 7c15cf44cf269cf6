"""Puts a migration together from the environment (R0.13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from system.migration.adapters.connections import Address
from system.migration.domain.entities import SERVICES
from system.platform.config.faults import ConfigurationError, Fault
from system.platform.config.loading import load
from system.platform.config.settings import Settings

LEGACY_VARIABLE: Final = "DATABASE_URL"


@dataclass(frozen=True)
class Databases:
    """The databases of a migration, as far as they are told.

    Attributes:
        legacy: the shared one; None when DATABASE_URL is not set.
        targets: by service, each with its owner role.
    """

    legacy: Address | None
    targets: dict[str, Address]

    def need_legacy(self) -> Address:
        """The legacy database.

        Raises:
            ConfigurationError: its variable is not set.
        """
        if self.legacy is None:
            raise ConfigurationError([_not_set(LEGACY_VARIABLE, "the legacy database's URL")])
        return self.legacy

    def need_targets(self, services: tuple[str, ...] = SERVICES) -> dict[str, Address]:
        """The databases of these services.

        Raises:
            ConfigurationError: names every variable that is not set.
        """
        missing = [
            _not_set(variable_of(service), f"the URL of {service}_db with its owner role")
            for service in services
            if service not in self.targets
        ]
        if missing:
            raise ConfigurationError(missing)
        return {service: self.targets[service] for service in services}


def databases(environ: Mapping[str, str]) -> Databases:
    """Read the environment.

    Raises:
        ConfigurationError: names every variable that cannot be used.
    """
    settings: Settings = load("migration", environ)
    legacy = settings.legacy_database_url
    return Databases(
        Address("legacy", LEGACY_VARIABLE, legacy) if legacy else None,
        {
            service: Address(f"{service}_db", variable_of(service), settings.owner_url(service))
            for service in SERVICES
            if settings.owner_url(service)
        },
    )


def variable_of(service: str) -> str:
    """The variable that names a service's database with its owner role."""
    return f"{service.upper()}_MIGRATION_DATABASE_URL"


def _not_set(variable: str, expected: str) -> Fault:
    return Fault(variable, f"not set; expected {expected}")
