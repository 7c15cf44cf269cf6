"""Asks for one answer of every class, and judges its headers against a policy file.

A class is a kind of answer (an API error, a hashed asset, a 413). Each sample is proven to be of
its class before its headers are judged; a class without a proven sample stays unjudged.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from harness.probe import error_code, exchange, header_values
from harness.verdict import Finding
from security import policies

PROFILE: Final = Path(__file__).parent / "profiles" / "headers.toml"


class AnswerClass(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of answer, how to get one, and what proves that it is one.

    Attributes:
        name: kind first, e.g. ``api success: payments``; the policy names classes by beginnings.
        path: what to ask for.
        method: the request's method.
        headers: the request's headers.
        json: the request's body as JSON; None for none.
        body: the request's body in bytes; wins over ``json``.
        status: statuses of which one proves the class.
        code: the envelope's code that proves it too; empty when any will do.
        media: the media type that proves it too; empty when any will do.
        part: the part of the target it shows, e.g. ``payments``.
    """

    name: str
    path: str
    method: str = "GET"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    json: Any = None
    body: bytes | None = None
    status: tuple[int, ...] = (200,)
    code: str = ""
    media: str = ""
    part: str = ""


def profile(path: Path = PROFILE) -> dict[str, Any]:
    """The policy file as it is."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


# ---- observe ----


def observe(client: httpx.Client, classes: Iterable[AnswerClass]) -> dict[str, Any]:
    """Ask once for each class; what came back is recorded with the proof it has to bear.

    Returns:
        by class name: ``status``, ``code``, ``media`` (the proofs), ``part`` and ``exchange``.
    """
    return {
        kind.name: {
            "status": list(kind.status),
            "code": kind.code,
            "media": kind.media,
            "part": kind.part,
            "exchange": exchange(
                client,
                kind.method,
                kind.path,
                headers=kind.headers,
                json=kind.json if kind.body is None else None,
                content=kind.body,
            ),
        }
        for kind in classes
    }


# ---- judge ----


def unproven(sample: Mapping[str, Any]) -> str:
    """Why a recorded sample is not of its class; empty when it is."""
    answer = sample["exchange"]
    if answer["error"]:
        return str(answer["error"])
    if answer["status"] not in sample["status"]:
        wanted = " or ".join(map(str, sample["status"]))
        return f"answered {answer['status']}, which is not {wanted}"
    if sample["code"] and error_code(answer) != sample["code"]:
        return f"code {error_code(answer) or 'missing'}, which is not {sample['code']}"
    media = ", ".join(header_values(answer, "content-type"))
    if sample["media"] and not media.startswith(sample["media"]):
        return f"media type {media or 'missing'}, which is not {sample['media']}"
    return ""


def judge(
    name: str,
    headers: Sequence[Sequence[str]],
    policy: Mapping[str, Any],
    *,
    origins: Iterable[str] = (),
) -> list[Finding]:
    """One answer's headers: each required one exactly once with an allowed value, none forbidden.

    Args:
        name: the answer's class; decides which rules apply.
        headers: pairs of name and value, repetition kept.
        policy: as `profile` reads it.
        origins: origins that the content policy may name.
    """
    findings = []
    for header, rule in policy["required"].items():
        if not applies(name, rule):
            continue
        place = f"{name}, {header}"
        values = [value for key, value in headers if key.lower() == header.lower()]
        if len(values) != 1:
            seen = f"{len(values)} times: {' | '.join(values)}" if values else "absent"
            findings.append(Finding(place, seen, "exactly once"))
        else:
            findings += _value(values[0], rule, policy, origins, place)
    for header in policy["forbidden"]["names"]:
        findings += [
            Finding(f"{name}, {header}", value, "absent")
            for key, value in headers
            if key.lower() == header.lower()
        ]
    return findings


def applies(name: str, rule: Mapping[str, Any]) -> bool:
    """Whether a header's rule is about answers of this class."""
    if any(name.startswith(start) for start in rule.get("not_on", ())):
        return False
    only = rule.get("only_on")
    return only is None or any(name.startswith(start) for start in only)


def required(name: str, policy: Mapping[str, Any]) -> list[str]:
    """The headers that an answer of this class must carry."""
    return [header for header, rule in policy["required"].items() if applies(name, rule)]


def _value(
    value: str,
    rule: Mapping[str, Any],
    policy: Mapping[str, Any],
    origins: Iterable[str],
    place: str,
) -> list[Finding]:
    match rule.get("rule"):
        case "transport-security":
            return policies.judge_transport_security(value, rule, place=place)
        case "content-security-policy":
            table = policy["content-security-policy"]
            return policies.judge_content_security_policy(
                value, table, origins=origins, place=place
            )
        case "permissions-policy":
            return policies.judge_permissions(value, rule, place=place)
        case None:
            pass
        case other:
            raise ValueError(f"the profile names the rule {other!r}, which does not exist")
    if "pattern" in rule:
        fits = re.fullmatch(rule["pattern"], value) is not None
        return [] if fits else [Finding(place, value, f"of the form {rule['pattern']}")]
    held = {part.strip() for part in value.split(",")} if rule.get("contains") else {value}
    if held.isdisjoint(rule["any_of"]):
        return [Finding(place, value, " or ".join(rule["any_of"]))]
    return []
