"""Tests of what is taken out of texts and trees that leave the process (R7.20, R7.21)."""

from __future__ import annotations

import base64
import json

import pytest

from system.platform.observability import redaction

CANARY = "canary-7f3a"
HEADER = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
JWT = f"{HEADER.rstrip(b'=').decode()}.eyJzdWIiOiJjYW5hcnktN2YzYSJ9.{CANARY}sig"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"authorization=Basic {CANARY}",
        f"Cookie: a=1; session={CANARY}; b=2",
        f"Set-Cookie: refresh={CANARY}; HttpOnly",
        f"password={CANARY}",
        f"?x=1&access_token={CANARY}&y=2",
        f"newPassword: {CANARY}",
        f'{{"password": "with space {CANARY} and more"}}',
        f'{{"password":"quote \\" {CANARY}"}}',
        f"{{'refreshToken': 'a {CANARY}'}}",
        f'{{\\"clientSecret\\": \\"{CANARY}\\"}}',
        f"%22password%22%3A%22{CANARY}%22",
        f"next=%2Freset%3Ftoken%3D{CANARY}",
        f"X-Psp-Signature: {CANARY}",
        f"X-API-Key: {CANARY}",
        f"apikey={CANARY}",
        f"postgresql://role:{CANARY}@host/db",
        f"amqp://{CANARY}:secret@host:5672/",
        f"the token was {JWT} as sent",
        f"/ws?token={JWT}",
    ],
)
def test_r7_20_no_secret_stays_in_a_text(text: str) -> None:
    """R7.20: named secrets in any case and quoting, anything of the form of a JWT, credentials."""
    assert CANARY not in redaction.text(text)


@pytest.mark.parametrize(
    "text",
    [
        "payment 42 completed in 3 ms",
        "GET /api/payments/:id 200",
        "http://127.0.0.1:3000/health",
        "version 1.2.3 of a.b.c",
        "tokenizer ready",
    ],
)
def test_r7_20_harmless_texts_stay_as_they_are(text: str) -> None:
    """R7.20: what hides nothing is not touched."""
    assert redaction.text(text) == text


def test_r7_21_e_mail_addresses_become_hashes_in_logs() -> None:
    """R7.21: the same address gives the same hash, in any case; encoded ones too."""
    shown = redaction.text("login of Some.One+x@Example.com and some.one%40example.com")
    assert "xample" not in shown
    assert redaction.email_hash("SOME.ONE+x@example.com") in redaction.text(
        "some.one+x@example.com"
    )


def test_r7_20_trees_are_redacted_at_any_depth() -> None:
    """R7.20: headers, cookies, query, body, extras, spans: by key, in any case, at any depth."""
    tree = {
        "Headers": {"AUTHORIZATION": CANARY, "X-Api-Key": CANARY, "Accept": "json"},
        "cookies": {"a": CANARY},
        "pairs": [["X-Auth-Token", CANARY], ("Accept", "json")],
        "deep": [{"deeper": [{"Client_Secret": {"inner": CANARY}}]}],
        "text": f"password={CANARY}",
        "number": 7,
        "nothing": None,
    }
    shown = redaction.tree(tree)

    assert CANARY not in json.dumps(shown)
    assert shown["Headers"]["Accept"] == "json"
    assert shown["Headers"]["AUTHORIZATION"] == "[REDACTED]"
    assert shown["pairs"] == [["X-Auth-Token", "[REDACTED]"], ["Accept", "json"]]
    assert (shown["number"], shown["nothing"]) == (7, None)


def test_a_long_text_takes_no_long_time() -> None:
    """Redaction is linear: 200 KB of the worst text takes well under a second."""
    import time

    worst = ("password" * 3 + "=" + "a-" * 20 + "@") * 3000
    started = time.process_time()
    redaction.text(worst)
    redaction.text("token" * 40_000)
    redaction.text("a" * 200_000 + "@")
    assert time.process_time() - started < 2.0
