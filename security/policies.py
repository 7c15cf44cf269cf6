"""Parses what security headers say, by the grammar of their standards; nothing is grepped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from harness.verdict import Finding

# Which directive speaks for one that is absent (CSP level 3, 6.8.3).
_FALLBACKS = {
    "script-src-elem": ("script-src", "default-src"),
    "script-src-attr": ("script-src", "default-src"),
    "style-src-elem": ("style-src", "default-src"),
    "style-src-attr": ("style-src", "default-src"),
    "worker-src": ("child-src", "script-src", "default-src"),
    "frame-src": ("child-src", "default-src"),
}
_NO_FALLBACK = frozenset({"base-uri", "form-action", "frame-ancestors", "sandbox", "report-uri"})


def parse_content_security_policy(text: str) -> dict[str, tuple[str, ...]]:
    """The directives of one policy; of a directive that is repeated the first counts (CSP3 2.2)."""
    directives: dict[str, tuple[str, ...]] = {}
    for part in text.split(";"):
        words = part.split()
        if words:
            directives.setdefault(words[0].lower(), tuple(words[1:]))
    return directives


def sources(directives: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...] | None:
    """What a directive allows, by its own word or its fallback's; None where anything goes."""
    if name in directives:
        return directives[name]
    if name in _NO_FALLBACK:
        return None
    for other in _FALLBACKS.get(name, ("default-src",)):
        if other in directives:
            return directives[other]
    return None


def judge_content_security_policy(
    text: str, policy: Mapping[str, Any], *, origins: Iterable[str], place: str
) -> list[Finding]:
    """A policy holds the required directives, nothing forbidden and no origin but the known.

    Args:
        text: the header's value.
        policy: the profile's ``content-security-policy`` table.
        origins: origins that may be named besides ``'self'``.
        place: goes into the findings.
    """
    if "," in text:
        return [Finding(place, "several policies in one header", "one policy")]
    directives = parse_content_security_policy(text)
    findings = []
    for name, allowed in policy["required"].items():
        held = directives.get(name)
        if held is None:
            findings.append(Finding(f"{place}, {name}", "absent", " or ".join(allowed)))
        elif not held or not set(held) <= set(allowed):
            seen = " ".join(held) or "empty"
            findings.append(Finding(f"{place}, {name}", seen, " or ".join(allowed)))
    known = {origin.rstrip("/").lower() for origin in origins}
    for name, forbidden in policy["forbidden"].items():
        held = sources(directives, name)
        if held is None:
            findings.append(Finding(f"{place}, {name}", "anything is allowed", "a list"))
            continue
        for source in held:
            if source.lower() in forbidden:
                findings.append(Finding(f"{place}, {name}", source, "absent", "critical"))
            elif _names_origin(source) and source.rstrip("/").lower() not in known:
                expected = " or ".join(["'self'", *sorted(known)])
                findings.append(Finding(f"{place}, {name}", source, expected))
    return findings


def _names_origin(source: str) -> bool:
    """True for a host source; keywords are quoted and schemes end in a colon."""
    return not source.startswith("'") and not source.endswith(":") and source != "*"


def judge_transport_security(text: str, policy: Mapping[str, Any], *, place: str) -> list[Finding]:
    """HSTS: one ``max-age`` that is long enough, with subdomains where the policy asks for them."""
    directives: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() in directives:
            return [Finding(place, f"{name} twice", "each directive once (RFC 6797, 6.1)")]
        if name:
            directives[name.lower()] = value.strip().strip('"')
    age = directives.get("max-age", "")
    findings = []
    if not age.isdigit() or int(age) < policy["least_age"]:
        findings.append(Finding(place, text, f"max-age={policy['least_age']} or more"))
    if policy.get("subdomains") and "includesubdomains" not in directives:
        findings.append(Finding(place, text, "includeSubDomains"))
    return findings


def judge_permissions(text: str, policy: Mapping[str, Any], *, place: str) -> list[Finding]:
    """Permissions-Policy: each feature of the policy is given to nobody."""
    given = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        given[name.strip().lower()] = "".join(value.split())
    return [
        Finding(place, f"{name}={given.get(name, ' not named')}", f"{name}=()")
        for name in policy["denied"]
        if given.get(name) != "()"
    ]


def own_origins(origin: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The origins that pages of an origin may name: itself, its socket form, and known others."""
    parts = urlsplit(origin)
    return (f"{parts.scheme}://{parts.netloc}", f"wss://{parts.netloc}", *extra)
