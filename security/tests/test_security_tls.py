"""The TLS probe flags a weak listener of its own, and its judges are right about recorded scans."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from security import tls

AT = datetime(2026, 6, 1, tzinfo=UTC)


def scan() -> dict[str, Any]:
    """A recorded scan of a listener that keeps to the intermediate profile."""
    ecdh = {"exchange": "ECDH", "bits": 256}
    return {
        "host": "localhost",
        "port": 443,
        "connected": True,
        "reason": "",
        "commands": {command.value: "completed" for command in tls.COMMANDS},
        "versions": {
            "SSLv2": [],
            "SSLv3": [],
            "TLSv1": [],
            "TLSv1.1": [],
            "TLSv1.2": [{"name": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", **ecdh}],
            "TLSv1.3": [{"name": "TLS_AES_128_GCM_SHA256", **ecdh}],
        },
        "curves": ["X25519", "secp256r1"],
        "weaknesses": dict.fromkeys(tls.WEAKNESSES, False),
        "certificates": [
            {
                "subject": "CN=localhost",
                "issuer": "CN=CA",
                "dns_names": ["localhost", "*.localhost"],
                "addresses": ["127.0.0.1"],
                "key": "EC",
                "bits": 256,
                "curve": "secp256r1",
                "signature": "ecdsa-with-SHA256",
                "not_before": (AT - timedelta(days=10)).isoformat(),
                "not_after": (AT + timedelta(days=355)).isoformat(),
                "chain": ["CN=localhost", "CN=CA"],
                "trusted_by": [tls.OWN_STORE],
                "complaints": [],
                "stapled": False,
                "asked_for": "localhost",
            }
        ],
        "resumption": {"session_ids": "FULLY_SUPPORTED", "tickets": "NOT_SUPPORTED"},
        "mozilla": {
            "intermediate": {"complete": True, "issues": {}},
            "modern": {"complete": True, "issues": {"tls_versions": "TLSv1.2"}},
        },
    }


def everything(seen: dict[str, Any]) -> list[str]:
    """The places of all findings under the intermediate profile."""
    policy = tls.profile()
    level = policy["intermediate"]
    findings = [
        *tls.judge_versions(seen, level),
        *tls.judge_suites(seen, level),
        *tls.judge_curves(seen, level),
        *tls.judge_mozilla(seen, "intermediate"),
        *tls.judge_weaknesses(seen),
        *tls.judge_certificates(seen, policy["certificate"], least_days=14, at=AT),
    ]
    return [finding.place for finding in findings]


def test_good_scan_has_no_finding() -> None:
    """A listener inside the profile gives neither a finding nor a gap."""
    assert everything(scan()) == []
    assert tls.gaps(scan()) == {}


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("versions", "TLSv1"), [{"name": "X", "exchange": "", "bits": 0}], "TLSv1"),
        (("versions", "TLSv1.3"), [], "TLSv1.3"),
        (("versions", "TLSv1.2", 0, "name"), "TLS_RSA_WITH_AES_128_CBC_SHA", "TLSv1.2 TLS_RSA"),
        (("curves",), ["secp521r1"], "curve secp521r1"),
        (("weaknesses", "heartbleed"), True, "heartbleed"),
        (("weaknesses", "missing_fallback_scsv"), True, "missing_fallback_scsv"),
        (("mozilla", "intermediate", "issues"), {"ciphers": "bad"}, "Mozilla intermediate"),
        (("certificates",), [], "certificate"),
        (("certificates", 0, "trusted_by"), [], "certificate CN=localhost"),
        (("certificates", 0, "asked_for"), "pay.example", "certificate CN=localhost"),
        (("certificates", 0, "not_after"), (AT + timedelta(days=13)).isoformat(), "certificate"),
        (("certificates", 0, "not_before"), (AT + timedelta(days=1)).isoformat(), "certificate"),
        (("certificates", 0, "curve"), "secp224r1", "certificate"),
        (("certificates", 0, "signature"), "sha1WithRSAEncryption", "certificate"),
        (("certificates", 0, "not_after"), (AT + timedelta(days=800)).isoformat(), "certificate"),
    ],
)
def test_one_fault_is_found(path: tuple[Any, ...], value: Any, place: str) -> None:
    """One deviation is one finding at its place."""
    seen = copy.deepcopy(scan())
    spot: Any = seen
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value

    found = everything(seen)
    assert found
    assert found[0].startswith(place)


def test_short_finite_field_parameters() -> None:
    """A DHE suite of the profile with 1024 bits is a finding."""
    seen = scan()
    suite = {"name": "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", "exchange": "DH", "bits": 1024}
    seen["versions"]["TLSv1.2"] = [suite]

    assert everything(seen) == ["TLSv1.2 TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"]


def test_weak_rsa_key() -> None:
    """1024 bits of RSA are too few, 2048 are enough."""
    seen = scan()
    seen["certificates"][0] |= {"key": "RSA", "bits": 1024, "curve": ""}
    assert everything(seen) == ["certificate CN=localhost"]
    seen["certificates"][0] |= {"bits": 2048}
    assert everything(seen) == []


def test_own_trust_can_be_ruled_out() -> None:
    """Where only public trust counts, the CA that was handed over does not help."""
    policy = tls.profile()["certificate"]
    findings = tls.judge_certificates(scan(), policy, least_days=14, at=AT, own_ca=False)

    assert [finding.expected for finding in findings] == ["a chain to a trusted CA"]


def test_gaps_are_named() -> None:
    """What a scan did not finish is a gap with its reason, never silence."""
    seen = scan()
    seen["commands"]["robot"] = "CONNECTIVITY_ISSUE"
    del seen["weaknesses"]["robot"]

    assert tls.gaps(seen).keys() == {"robot"}
    assert tls.gaps({"connected": False, "reason": "refused"}) == {
        "listener": "could not be scanned: refused"
    }


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("a.b.localhost", False),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("evil-localhost", False),
    ],
)
def test_names(host: str, matches: bool) -> None:
    """Exact names, one wildcard label, addresses (RFC 6125)."""
    assert tls.name_matches(scan()["certificates"][0], host) is matches


def test_nothing_listens() -> None:
    """A closed port is an observation that says why, not an error."""
    seen = tls.observe("localhost", 1, address="127.0.0.1")

    assert not seen["connected"]
    assert seen["reason"]
    assert tls.gaps(seen)


def test_weak_listener_is_flagged() -> None:
    """The scanner sees TLS 1.0, the old suites and the short key of a listener made to be weak."""
    with tls.weak_listener() as port:
        seen = tls.observe("localhost", port, address="127.0.0.1")
    json.dumps(seen)  # evidence can be written

    places = everything(seen)
    assert {"TLSv1", "TLSv1.1", "certificate CN=weak.invalid"} <= set(places)
    assert any(place.startswith("TLSv1.2 TLS_RSA_WITH_") for place in places)
    assert any(place.startswith("Mozilla intermediate: ciphers") for place in places)
