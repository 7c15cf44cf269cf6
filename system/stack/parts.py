"""The parts of the platform by name, in the order in which they depend on each other."""

from __future__ import annotations

SERVICES = ("auth", "payments", "admin", "profile")
DATABASES = tuple(f"postgres-{service}" for service in SERVICES)
PROGRAMS = (*SERVICES, "gateway")  # our own Python processes
PARTS = ("edge", "gateway", *SERVICES, *DATABASES, "rabbitmq", "redis")

# The legacy database, which is started on demand only (`python -m system legacy up`).
LEGACY = "postgres-legacy"
OPTIONAL = (LEGACY,)

# What is ended first: those who use, then those who are used.
ENDING_ORDER = (
    ("edge",),
    ("gateway", *SERVICES),
    (*DATABASES, LEGACY, "rabbitmq", "redis"),
)

# Executables whose environment cannot be read back, because they write their title over it.
TITLED_PROGRAMS = ("postgres", "nginx")


def database_of(service: str) -> str:
    """The part that holds a service's database."""
    return f"postgres-{service}"
