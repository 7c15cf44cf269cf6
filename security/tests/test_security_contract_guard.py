"""The guard keeps generated requests away from whoever is not of this run."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from security import contract_fuzzing
from security.contract_guard import Guard, sign
from security.contract_settings import Person, Settings

STRANGER = "11111111-1111-4111-8111-111111111111"
ADMIN = Person("22222222-2222-4222-8222-222222222222", "admin@example.com", "p")
VISITOR = Person("33333333-3333-4333-8333-333333333333", "visitor@trial.invalid", "visits")
DECOY = Person("44444444-4444-4444-8444-444444444444", "decoy@trial.invalid", "d")
OWN = "55555555-5555-4555-8555-555555555555"


class Case(SimpleNamespace):
    """What the guard sees of one of Schemathesis' cases."""

    @classmethod
    def of(cls, *, positive: bool = True, phase: str = "fuzzing", **given: Any) -> Case:
        meta = SimpleNamespace(
            generation=SimpleNamespace(mode=SimpleNamespace(is_positive=positive)),
            phase=SimpleNamespace(name=SimpleNamespace(value=phase)),
        )
        given = {"path_parameters": {}, "headers": {}, "body": None, **given}
        return cls(meta=meta, auth_identity="first", operation=None, **given)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """A guard whose newcomer and visitor answer at once."""
    settings = Settings(
        origin="https://shop.example",
        ca="",
        address="",
        prefix="trial-x",
        journal=str(tmp_path / "journal"),
        password="newcomer's",
        visitor=VISITOR,
        decoy=DECOY,
        protected=(ADMIN.id, ADMIN.email),
        identities={},
        most=2,
        parent=0,
    )
    return Guard(
        settings,
        newcomer=lambda: ("66666666-6666-4666-8666-666666666666", "fresh-token"),
        visit=lambda: "fresh-refresh-token",
        bind=lambda authorization, device: None,
    )


def _shown(guard: Guard, *texts: str) -> None:
    guard.after("GET /api/admin/users", Case.of(), 200, json.dumps(list(texts)))


def _made(guard: Guard, label: str, id: str) -> None:
    guard.after(label, Case.of(), 201, json.dumps({"data": {"id": id}}))


@pytest.mark.parametrize(
    "label",
    [
        "DELETE /api/admin/users/{id}",
        "PUT /api/admin/users/{id}",
        "PUT /api/admin/users/{id}/role",
        "PATCH /api/admin/users/{id}/role",
        "PATCH /api/admin/users/{userId}/status",
        "PUT /api/payments/{id}",
        "PATCH /api/payments/{id}/status",
    ],
)
@pytest.mark.parametrize(
    "spelling", [str, str.upper, lambda id: id.replace("-", ""), "{{{}}}".format]
)
@pytest.mark.parametrize("id", [STRANGER, ADMIN.id, DECOY.id])
def test_nobody_else_is_changed(guard: Guard, label: str, spelling: Any, id: str) -> None:
    """An id that answers have shown, in whatever spelling, becomes nobody's."""
    _shown(guard, STRANGER)
    case = Case.of(path_parameters={"id": spelling(id)}, body={})

    guard.before(label, case)

    assert uuid.UUID(case.path_parameters["id"]) not in map(
        uuid.UUID, (STRANGER, ADMIN.id, DECOY.id)
    )


def test_what_this_run_made_may_be_changed(guard: Guard) -> None:
    """Its id goes through, and so do an id nobody has and what is no id."""
    _made(guard, "POST /api/admin/users", ADMIN.id.replace("2", "8"))
    _made(guard, "POST /api/admin/users", OWN)
    for id in (OWN, "77777777-7777-4777-8777-777777777777", "no-id"):
        case = Case.of(positive=False, path_parameters={"id": id})

        guard.before("DELETE /api/admin/users/{id}", case)

        assert case.path_parameters["id"] == id


def test_every_other_valid_request_gets_something_to_work_on(guard: Guard) -> None:
    """Until it is gone; links bring their own."""
    _made(guard, "POST /api/admin/users", OWN)
    cases = [Case.of(path_parameters={"id": "x"}) for _ in range(3)]
    linked = Case.of(phase="stateful", path_parameters={"id": "x"})
    for case in (linked, *cases):
        guard.before("PUT /api/admin/users/{id}", case)
    guard.after("DELETE /api/admin/users/{id}", cases[0], 204, "")
    late = Case.of(path_parameters={"id": "x"})
    guard.before("PATCH /api/admin/users/{id}/role", late)

    assert [case.path_parameters["id"] for case in (linked, *cases)] == ["x", OWN, "x", OWN]
    assert late.path_parameters["id"] == "x"


def test_payments_go_to_the_decoy_instead_of_others(guard: Guard) -> None:
    """By id and by address; an unknown recipient stays unknown."""
    _shown(guard, STRANGER, "stranger@example.com")
    body = {"recipientId": STRANGER, "recipientEmail": "Stranger@Example.com", "amount": "1.00"}
    case, unknown = Case.of(body=body), Case.of(body={"recipientEmail": "nobody@x.test"})

    guard.before("POST /api/payments", case)
    guard.before("POST /api/payments", unknown)

    assert case.body == {"recipientId": DECOY.id, "recipientEmail": DECOY.email, "amount": "1.00"}
    assert unknown.body == {"recipientEmail": "nobody@x.test"}


def test_no_address_fails_to_log_in_twice(guard: Guard) -> None:
    """So nobody is locked out (R1.76), least of all an account of the target."""
    sent = []
    for address in (ADMIN.email, "a@x.test", "A@x.test", VISITOR.email, "no address"):
        case = Case.of(positive=False, body={"email": address, "password": "wrong"})
        guard.before("POST /api/auth/login", case)
        sent.append(case.body["email"])

    assert sent[1] == "a@x.test"
    assert sent[4] == "no address"
    assert all(sent[n].startswith("trial-x-") for n in (0, 2, 3))


def test_an_address_that_was_taken_is_every_other_time_a_fresh_one(guard: Guard) -> None:
    """So that both answers are seen: created, and taken."""
    sent = []
    for _ in range(3):
        case = Case.of(body={"email": "new@example.com"})
        guard.before("POST /api/admin/users", case)
        sent.append(case.body["email"])

    assert (sent[0], sent[2]) == ("new@example.com", "new@example.com")
    assert sent[1].startswith("trial-x-")


def test_one_person_is_kept_from_deletion(guard: Guard) -> None:
    """Changes need somebody to work on."""
    _made(guard, "POST /api/admin/users", OWN)
    alone = Case.of(path_parameters={"id": "x"})
    guard.before("DELETE /api/admin/users/{id}", alone)
    _made(guard, "POST /api/admin/users", VISITOR.id)
    case = Case.of(path_parameters={"id": "x"})
    guard.before("DELETE /api/admin/users/{id}", case)

    drawn = Case.of(positive=False, path_parameters={"id": OWN})
    guard.before("DELETE /api/admin/users/{id}", drawn)
    linked = Case.of(phase="stateful", path_parameters={"id": OWN})
    guard.before("DELETE /api/admin/users/{id}", linked)

    assert (alone.path_parameters["id"], case.path_parameters["id"]) == ("x", VISITOR.id)
    assert drawn.path_parameters["id"] != OWN
    assert linked.path_parameters["id"] == OWN


def test_the_visitor_logs_in_and_refreshes(guard: Guard) -> None:
    """The first of each three valid requests succeeds."""
    login = Case.of(body={"email": "a@x.test", "password": "p"})
    refresh = Case.of(body={})

    guard.before("POST /api/auth/login", login)
    guard.before("POST /api/auth/refresh", refresh)

    assert login.body == {"email": VISITOR.email, "password": VISITOR.password}
    assert refresh.body == {"refreshToken": "fresh-refresh-token"}


def test_passwords_are_changed_of_newcomers_only(guard: Guard, tmp_path: Path) -> None:
    """Whoever asks without credentials goes on without."""
    case = Case.of(headers={"Authorization": "Bearer first's"}, body={"currentPassword": "x"})
    bare = Case.of(body={"currentPassword": "x"})

    guard.before("POST /api/auth/password", case)
    guard.before("POST /api/auth/password", bare)

    assert case.headers["Authorization"] == "Bearer fresh-token"
    assert case.body["currentPassword"] == "newcomer's"
    assert bare.headers == {}
    made, led = contract_fuzzing.read_journal(tmp_path / "journal")
    assert made["user"] == ["66666666-6666-4666-8666-666666666666"]
    assert sum(led.values()) == 1


@pytest.mark.parametrize(
    ("body", "type"),
    [({}, "refresh"), ({"type": "jwt"}, "refresh"), ({"type": "both"}, "refresh"),
     ({"type": "x"}, "x")],
)  # fmt: skip
def test_access_keys_are_not_rotated(guard: Guard, body: dict[str, str], type: str) -> None:
    """The keys that the target file grants go on to verify; wrong types stay wrong."""
    case = Case.of(body=body)

    guard.before("POST /api/auth/admin/secrets/rotate", case)

    assert case.body["type"] == type


def test_configuration_is_written_under_the_prefix(guard: Guard) -> None:
    """No key of the target is replaced; a key of the greatest length keeps it."""
    cases = [Case.of(path_parameters={"key": key}) for key in ("app.version", "k" * 128, "No!")]
    again = Case.of(path_parameters={"key": "trial-x.app.version"})
    guard.before("PUT /api/admin/config/{key}", again)
    for case in cases:
        guard.before("PUT /api/admin/config/{key}", case)

    short, long, bad = (case.path_parameters["key"] for case in cases)
    assert short == again.path_parameters["key"] == "trial-x.app.version"
    assert (long[:9], len(long)) == ("trial-x.k", 128)
    assert bad == "No!"


def test_the_coverage_phase_sends_its_share_of_each_operation(guard: Guard) -> None:
    """Valid and invalid ones are counted apart; other phases have their own measure."""
    valid = [guard.is_wanted("GET /x", Case.of(phase="coverage")) for _ in range(3)]
    invalid = guard.is_wanted("GET /x", Case.of(phase="coverage", positive=False))
    other = [guard.is_wanted("GET /x", Case.of()) for _ in range(3)]

    assert valid == [True, True, False]
    assert invalid
    assert other == [True] * 3


def _notice(signature: str, path: str = "/api/webhooks/payments") -> requests.PreparedRequest:
    headers = {"X-Webhook-Timestamp": "1", "X-Webhook-Signature": signature}
    return requests.Request("POST", f"https://shop.example{path}", headers, json={"a": 1}).prepare()


def test_notices_with_a_signature_of_the_right_form_are_signed() -> None:
    """By R1.121 over timestamp and raw body; malformed ones and other paths stay as they are."""
    wanted, malformed = _notice("sha256=" + "0" * 64), _notice("sha256=0")
    elsewhere = _notice("sha256=" + "0" * 64, "/api/payments")
    for request in (wanted, malformed, elsewhere):
        sign(request, "secret", now=100.0)

    assert isinstance(wanted.body, bytes)
    expected = hmac.new(b"secret", b"100." + wanted.body, hashlib.sha256).hexdigest()
    assert wanted.headers["X-Webhook-Signature"] == f"sha256={expected}"
    assert wanted.headers["X-Webhook-Timestamp"] == "100"
    assert malformed.headers["X-Webhook-Signature"] == "sha256=0"
    assert elsewhere.headers["X-Webhook-Signature"] == "sha256=" + "0" * 64
