"""Runs auth-service: `python -m system.auth`, configured by the environment (R0.13)."""

from __future__ import annotations

from system.auth.bootstrap import create
from system.platform.config.loading import load_or_exit
from system.platform.http.serving import run
from system.platform.observability import logs


def main() -> None:
    """Start, serve until SIGTERM, end."""
    settings = load_or_exit("auth")
    logs.configure(settings.service_name)
    run(create(settings), settings)


if __name__ == "__main__":
    main()
