"""The front page and what it refers to, found by reading it."""

from __future__ import annotations

import re

import httpx

from harness.probe import CouldNotObserve, exchange

_REFERENCE = re.compile(r"""(?:src|href)=["'](/[^"'#?]+\.(?:js|mjs|css))["']""")
_HASHED = re.compile(r"[.-][0-9a-f]{8,64}\.(?:js|mjs|css)$")


def assets(client: httpx.Client) -> list[str]:
    """Paths of the scripts and styles the front page refers to.

    Raises:
        CouldNotObserve: there is no front page, or it refers to none.
    """
    page = exchange(client, "GET", "/", body_limit=262144)
    found = list(dict.fromkeys(_REFERENCE.findall(page["body"])))
    if page.status != 200 or not found:
        seen = page["error"] or f"{page.status} with {len(found)} assets"
        raise CouldNotObserve(f"front page: seen {seen}, expected 200 with scripts and styles")
    return found


def hashed(paths: list[str]) -> list[str]:
    """Those with a content hash in their name."""
    return [path for path in paths if _HASHED.search(path)]
