"""Starts the gateway: `python -m system.gateway`."""

from system.gateway.entrypoints.process import main

main()
