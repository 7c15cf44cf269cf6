"""Criterion, thresholds, redaction and evidence keep their promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import thresholds
from harness.criterion import Criterion, CriterionError, Effect
from harness.evidence import Evidence, EvidenceFolder
from harness.redaction import REDACTED, redact, redact_text
from harness.thresholds import Thresholds, ThresholdsError

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def _criterion(**changes: Any) -> Criterion:
    values: dict[str, Any] = {
        "id": "some-thing",
        "area": "edge",
        "statement": "It MUST hold.",
        "gate": "always",
    }
    return Criterion(**{**values, **changes})


def test_all_faults_of_a_criterion_are_told_at_once() -> None:
    """A wrong declaration names each fault."""
    with pytest.raises(CriterionError) as caught:
        _criterion(id="Bad_Id", statement="should", gate="", effects=(), time_limit=0)

    for words in ("kebab-case", "no MUST", "gate is empty", "effects are empty", "0 s"):
        assert words in str(caught.value)


def test_roughest_effect_decides_the_order() -> None:
    """Reads come first, disruption last."""
    criterion = _criterion(effects=(Effect.DISRUPTS, Effect.READS, Effect.LOADS))

    assert criterion.roughest_effect is Effect.DISRUPTS


def test_a_profile_replaces_and_names_what_it_replaced() -> None:
    """Limits merge the base table with the profile's."""
    document = {"criteria": {"c": {"n": 100, "seconds": 60, "quick": {"seconds": 5}}}}

    quick = Thresholds(document, "quick").of("c")
    full = Thresholds(document, "full").of("c")

    assert (dict(quick), quick.shortened) == ({"n": 100, "seconds": 5}, ("seconds",))
    assert (dict(full), full.shortened) == ({"n": 100, "seconds": 60}, ())
    assert len(Thresholds(document, "full").of("other")) == 0


def test_a_missing_number_names_what_there_is() -> None:
    """Asking for an unknown number says where it belongs and what is there."""
    limits = Thresholds({"criteria": {"c": {"n": 1}}}, "quick").of("c")

    with pytest.raises(ThresholdsError, match=r"\[criteria.c\] has no 'm'; it holds n"):
        limits["m"]


def test_unknown_profile_and_tables_are_told() -> None:
    """Misspelt names do not pass silently."""
    with pytest.raises(ThresholdsError, match="expected one of quick, full, soak"):
        Thresholds({}, "fast")
    assert Thresholds({"criteria": {"x": {}, "y": {}}}, "quick").unknown({"x"}) == {"y"}


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"= 1", "not TOML"), (b"\xff", "not TOML")]
)
def test_an_unusable_thresholds_file_is_told(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """Missing, broken and undecodable files are errors with the path."""
    path = tmp_path / "thresholds.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ThresholdsError, match=words):
        thresholds.load(path, "quick")


def test_a_thresholds_file_is_identified_by_its_content(tmp_path: Path) -> None:
    """The digest changes with the content."""
    path = tmp_path / "thresholds.toml"
    path.write_text("[criteria.c]\nn = 1\n")
    first = thresholds.load(path, "quick").digest
    path.write_text("[criteria.c]\nn = 2\n")

    assert len(first) == 64
    assert thresholds.load(path, "quick").digest != first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Bearer {JWT} refused", f"Bearer {REDACTED} refused"),
        ("amqp://admin:geheim@localhost:5672/", f"amqp://admin:{REDACTED}@localhost:5672/"),
        ('{"password": "x1", "a": 1}', f'{{"password": "{REDACTED}", "a": 1}}'),
        ('{"accessToken":"abc"}', f'{{"accessToken":"{REDACTED}"}}'),
        ("/ws?token=abc&x=1", f"/ws?token={REDACTED}&x=1"),
        ("the token: expired", "the token: expired"),
        ("https://localhost:8443/a?b=1", "https://localhost:8443/a?b=1"),
    ],
)
def test_secrets_leave_a_text(text: str, expected: str) -> None:
    """JWTs, URL passwords and secret pairs go; plain prose stays."""
    assert redact_text(text) == expected


def test_secrets_leave_a_document_at_any_depth() -> None:
    """Keys that name a secret lose their value, numbers and harmless keys stay."""
    document = {
        "headers": [{"Authorization": "Bearer x"}, {"set-cookie": "a=b"}],
        "body": {
            "refreshToken": "abc",
            "count": 3,
            "tokens": "many",
            "bad token": "401",
            "user.password_changed": "not built",
            "secrets.rotated": "not built",
            "db.password": "geheim",
            "note": JWT,
        },
        "tuple": (JWT, 1, None, True),
    }

    assert redact(document) == {
        "headers": [{"Authorization": REDACTED}, {"set-cookie": REDACTED}],
        "body": {
            "refreshToken": REDACTED,
            "count": 3,
            "tokens": "many",
            "bad token": "401",
            "user.password_changed": "not built",
            "secrets.rotated": "not built",
            "db.password": REDACTED,
            "note": REDACTED,
        },
        "tuple": [REDACTED, 1, None, True],
    }


def test_evidence_is_on_disk_redacted_and_stamped_before_it_is_read(tmp_path: Path) -> None:
    """What a check sees is what the file holds."""
    folder = EvidenceFolder(tmp_path, "c")

    evidence = folder.write("first", {"status": 200, "password": "x"})

    assert isinstance(evidence, Evidence)
    on_disk = json.loads((tmp_path / "evidence" / "c" / "first.json").read_text())
    assert dict(evidence) == on_disk
    assert (on_disk["status"], on_disk["password"]) == (200, REDACTED)
    assert on_disk["recorded"].endswith("Z")
    assert len(evidence) == 3
    assert evidence.sibling("x.npz") == tmp_path / "evidence" / "c" / "x.npz"
    assert folder.relative_files() == ("evidence/c/first.json",)
