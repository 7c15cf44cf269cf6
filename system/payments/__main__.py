"""Starts payments-service from the environment: `python -m system.payments`."""

from __future__ import annotations

from system.payments.bootstrap import build
from system.platform.config.loading import load_or_exit
from system.platform.http.serving import run
from system.platform.observability import logs


def main() -> None:
    """Serve until SIGTERM; ends with code 1 when the environment cannot be used (R0.14)."""
    settings = load_or_exit("payments")
    logs.configure(settings.service_name)
    run(build(settings), settings)


if __name__ == "__main__":
    main()
