"""Runs the gateway as a process: listens, serves until SIGTERM, ends what is under way (R0.11)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import Mapping
from typing import Final

import uvloop

from system.gateway.bootstrap import Gateway, build
from system.gateway.domain.routes import RouteTable
from system.gateway.entrypoints.description import DescriptionEntry
from system.gateway.entrypoints.graphql.endpoint import GraphQLEntry
from system.gateway.entrypoints.http import GatewayServer, HttpEntry, make_server
from system.gateway.entrypoints.websocket import WebSocketEntry
from system.platform.config.loading import load_or_exit
from system.platform.config.settings import Settings
from system.platform.observability import logs, metrics, telemetry

log = logging.getLogger(__name__)

DRAIN_S: Final = 10.0  # R0.11
# After SIGTERM idle connections stay open until the edge, which keeps them for 4 s, has left them:
# closing one could meet a request on its way.
LEAVE_S: Final = 4.5
BACKLOG: Final = 4_096


def make_entry(gateway: Gateway) -> HttpEntry:
    """The handler over a gateway's parts."""
    settings = gateway.settings
    table = RouteTable()
    pages = GraphQLEntry(
        gateway.rest, table, gateway.admission, production=settings.production
    ).handlers()
    if settings.api_docs_enabled:
        pages |= DescriptionEntry(gateway.description).handlers()
    return HttpEntry(
        table=table,
        upstreams=gateway.upstreams,
        admission=gateway.admission,
        websocket=WebSocketEntry(gateway.authentication, gateway.realtime),
        health=gateway.health,
        trusted_proxies=settings.trusted_proxies,
        cors_origins=frozenset(settings.cors_origins),
        pages=pages,
    )


async def serve(settings: Settings, environ: Mapping[str, str], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain.

    Args:
        settings: of service `gateway`.
        environ: the environment.
        stop: set by a signal.
    """
    gateway = build(settings, environ)
    await gateway.start()
    entry = make_entry(gateway)
    server = make_server(entry)
    listener = await asyncio.get_running_loop().create_server(
        server, settings.bind_address, settings.port, backlog=BACKLOG
    )
    watcher = asyncio.create_task(metrics.watch_event_loop())
    log.info("listening", extra={"fields": {"port": settings.port}})
    try:
        await stop.wait()
        log.info("stopping")
        listener.close()
        await drain(gateway, entry, server)
    finally:
        listener.close()
        watcher.cancel()
        await gateway.close()


async def drain(
    gateway: Gateway, entry: HttpEntry, server: GatewayServer, limit_s: float = DRAIN_S
) -> None:
    """End WebSockets with 1001, let clients leave, finish what is in flight (R0.11, R4.30)."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    entry.leave()
    await gateway.realtime.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(began + min(LEAVE_S, limit_s)):
            await server.deserted()
    await gateway.realtime.close()  # those whose handshake was under way
    server.pre_shutdown()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(began + limit_s):
            await entry.idle()
    await server.shutdown(0.1)


def allow_connections() -> None:
    """Raise the soft limit of open files to the hard one: a connection takes one (R4.32)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _main(settings: Settings, environ: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, environ, stop)


def main() -> None:
    """Run the process with the environment's configuration."""
    settings = load_or_exit("gateway")
    logs.configure(settings.service_name)
    allow_connections()
    telemetry.start(settings)
    try:
        uvloop.run(_main(settings, os.environ))
    finally:
        telemetry.stop()
