"""Runs the admin service: `python -m system.admin`."""

from __future__ import annotations

from system.platform.config.loading import load_or_exit
from system.platform.http.serving import run
from system.platform.observability import logs


def main() -> None:
    """Read the configuration, or end with all its faults (R0.14); then serve until SIGTERM."""
    settings = load_or_exit("admin")
    logs.configure(settings.service_name)
    # Imported late, so that a bad configuration is reported at once.
    from system.admin.entrypoints.application import create

    run(create(settings), settings)


if __name__ == "__main__":
    main()
