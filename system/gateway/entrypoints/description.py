"""Serves the description of the API: as JSON, as YAML, and as a page to read (R1.154)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import yaml

from system.gateway.entrypoints import answers
from system.gateway.entrypoints.call import Call
from system.gateway.entrypoints.description_page import page
from system.gateway.service.description import DescriptionService

JSON_PATH: Final = "/api-docs.json"
YAML_PATH: Final = "/api-docs.yaml"
PAGE_PATH: Final = "/api-docs"

Handler = Callable[[Call], Awaitable[answers.Sent]]


class DescriptionEntry:
    """The three paths of the description.

    Args:
        service: has the document.
    """

    def __init__(self, service: DescriptionService) -> None:
        self._service = service
        self._written: dict[str, tuple[Mapping[str, Any], bytes]] = {}

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """The handlers by method and path."""
        return {
            ("GET", JSON_PATH): self._answer(JSON_PATH, b"application/json", answers.json),
            ("GET", YAML_PATH): self._answer(YAML_PATH, b"application/yaml", as_yaml),
            ("GET", PAGE_PATH): self._answer(PAGE_PATH, b"text/html; charset=utf-8", page),
        }

    def _answer(
        self, path: str, media_type: bytes, write: Callable[[Mapping[str, Any]], bytes]
    ) -> Handler:
        async def handler(call: Call) -> answers.Sent:
            document = await self._service.document()
            known = self._written.get(path)
            if known is None or known[0] is not document:
                # YAML and the page take tens of milliseconds: written once for each document.
                known = self._written[path] = (document, write(document))
            return await call.body(
                200, known[1], (b"Content-Type: " + media_type, answers.NO_STORE)
            )

        return handler


class _Plain(yaml.SafeDumper):
    """YAML without references: each place says what it means."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def as_yaml(document: Mapping[str, Any]) -> bytes:
    """Write a document as YAML."""
    written: bytes = yaml.dump(
        document, Dumper=_Plain, encoding="utf-8", sort_keys=False, allow_unicode=True
    )
    return written
