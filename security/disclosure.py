"""Makes the target talk, and looks for what its answers tell about what is behind it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from harness.probe import exchange
from harness.verdict import Finding

PROFILE: Final = Path(__file__).parent / "profiles" / "disclosure.toml"
_SHOWN: Final = 80


def profile(path: Path = PROFILE) -> dict[str, Any]:
    """The policy file as it is."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


# ---- observe ----


def observe(client: httpx.Client, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Send every provocation of the policy; the exchanges by name."""
    seen = {}
    for one in policy["provocation"]:
        headers = {}
        if "type" in one:
            headers["Content-Type"] = one["type"]
        if "authorization" in one:
            headers["Authorization"] = one["authorization"]
        text = one.get("body", "") + one.get("repeat", "") * one.get("times", 0)
        seen[one["name"]] = exchange(
            client,
            one["method"],
            one["path"],
            headers=headers,
            content=text.encode() if text else None,
            body_limit=65536,
        )
    return seen


# ---- judge ----


def judge(
    answers: Mapping[str, Mapping[str, Any]],
    policy: Mapping[str, Any],
    *,
    allowed: Iterable[str] = (),
) -> list[Finding]:
    """No answer holds what a pattern of the policy finds.

    Args:
        answers: recorded exchanges by name.
        policy: as `profile` reads it.
        allowed: texts that are public anyway, such as the origin's own host and port, and what
            the client itself sent.
    """
    public = [text for text in allowed if text]
    findings = []
    for name, answer in answers.items():
        for pattern in policy["pattern"]:
            for place, text in _texts(answer, pattern):
                for public_text in public:
                    text = text.replace(public_text, "")
                if found := re.search(pattern["regex"], text, re.MULTILINE):
                    seen = f"{pattern['name']}: {found[0].strip()[:_SHOWN]}"
                    findings.append(
                        Finding(
                            f"{name}, {place}", seen, "nothing of the kind", pattern["severity"]
                        )
                    )
    return findings


def blind_patterns(policy: Mapping[str, Any]) -> list[str]:
    """The patterns that do not find their own canary in a planted answer; none is right."""
    return [
        pattern["name"]
        for pattern in policy["pattern"]
        if not any(
            finding.seen.startswith(f"{pattern['name']}:")
            for finding in judge({"canary": planted(pattern)}, policy)
        )
    ]


def planted(pattern: Mapping[str, Any]) -> dict[str, Any]:
    """An answer that holds a pattern's canary where the pattern looks."""
    if pattern["where"] == "body":
        return {"headers": [], "body": f"something\n{pattern['canary']}\nmore"}
    header = pattern.get("of", ["location"])[0]
    return {"headers": [[header, pattern["canary"]]], "body": ""}


def _texts(answer: Mapping[str, Any], pattern: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    texts = []
    if pattern["where"] in ("headers", "both"):
        texts += [
            (f"header {name}", value)
            for name, value in answer["headers"]
            if "of" not in pattern or name in pattern["of"]
        ]
    if pattern["where"] in ("body", "both"):
        texts.append(("body", answer["body"]))
    return texts
