"""Asks the services what their routes take and give (R1.154)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from system.gateway.adapters.upstream import Upstream
from system.gateway.adapters.upstream_trouble import UpstreamTrouble
from system.gateway.domain.routes import Service
from system.platform.http.openapi import DOCUMENT_PATH

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0


class InternalDescriptions:
    """`GET /internal/openapi.json` of each service.

    Args:
        upstreams: the services.
        internal_token: value of X-Internal-Token.
    """

    def __init__(self, upstreams: Mapping[Service, Upstream], internal_token: str) -> None:
        self._upstreams = upstreams
        self._headers = {"X-Internal-Token": internal_token, "Accept": "application/json"}

    async def of(self, service: Service) -> Mapping[str, Any] | None:
        """See `ServiceDescriptions.of`."""
        try:
            status, body = await self._upstreams[service].fetch(
                DOCUMENT_PATH, self._headers, timeout_s=TIMEOUT_S
            )
        except UpstreamTrouble as trouble:
            log.warning("%s-service did not describe its routes: %s", service, trouble)
            return None
        if status != 200:
            log.warning("%s-service answered %d about its routes, expected 200", service, status)
            return None
        found: Mapping[str, Any] = msgspec.json.decode(body)
        return found
