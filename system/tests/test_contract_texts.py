"""1.3 wherever text, e-mail addresses and new passwords enter (R1.19-R1.21)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from system.conftest import RunningStack
from system.tests.doors import PASSWORD, Caller, newcomer, refusal

pytestmark = pytest.mark.platform

# What is written, and what is left of it.
CLEANED = (
    ("  padded\t\n", "padded"),
    ("e\u0301te\u0301", "\u00e9t\u00e9"),
    ("a <b class='x'>bold</b> move", "a bold move"),
    ("<script>alert(1)</script>done", "alert(1)done"),
    ("JaVaScRiPt:alert(2)", "alert(2)"),
    ("x onClick = y", "x  y"),
    ("ONERROR=z", "z"),
    ("nul\x00byte", "nulbyte"),
    # In this order: what the removal of a tag joins together is looked at afterwards...
    ("java<i>script:</i>x", "x"),
    ("on<i></i>load=x", "x"),
    # ...and what the removal of a later one joins together is not looked at again.
    ("java\x00script:x", "javascript:x"),
    ("<b> inner blank", " inner blank"),
    ("a < b and c", "a < b and c"),
    ("only=letters", "letters"),
)


@pytest.fixture
def admin(well: RunningStack) -> Iterator[Caller]:
    made = Caller(well, well.account("admin"))
    yield made
    made.close()


@pytest.fixture
def somebody(well: RunningStack) -> Iterator[Caller]:
    made = newcomer(well)
    yield made
    made.close()


def fresh_email() -> str:
    return f"{uuid.uuid4()}@x.test"


@pytest.fixture
def ways(
    somebody: Caller, admin: Caller, sign: Callable[[bytes], dict[str, str]]
) -> dict[str, Callable[[str], httpx.Response]]:
    """Ways for a free text to enter; each answers with it where R1.19 names one."""
    paid = {"type": "instant", "amount": "1", "currency": "USD", "recipientId": admin.id}
    payment = somebody.good("POST", "/api/payments", {**paid, "description": "x"})["id"]
    account = {"password": PASSWORD, "role": "VENDOR"}
    user = admin.good("POST", "/api/admin/users", {**account, "email": fresh_email(), "name": "N"})
    key = f"/api/admin/config/contract.{uuid.uuid4()}"

    def ask(caller: Caller, method: str, path: str, body: Any) -> httpx.Response:
        return caller.ask("gateway", method, path, json=body)

    return {
        "name": lambda text: ask(
            somebody,
            "POST",
            "/api/auth/register",
            {"email": fresh_email(), "password": PASSWORD, "name": text},
        ),
        "name of a user": lambda text: ask(
            admin, "POST", "/api/admin/users", {**account, "email": fresh_email(), "name": text}
        ),
        "new name": lambda text: ask(
            admin, "PUT", f"/api/admin/users/{user['id']}", {"name": text}
        ),
        "deviceName": lambda text: ask(
            somebody,
            "POST",
            "/api/auth/devices/register",
            {"deviceId": "d", "deviceName": text},
        ),
        "description": lambda text: ask(
            somebody, "POST", "/api/payments", {**paid, "description": text}
        ),
        "new description": lambda text: ask(
            somebody, "PUT", f"/api/payments/{payment}", {"description": text}
        ),
        "description of a value": lambda text: ask(
            admin, "PUT", key, {"value": 1, "description": text}
        ),
        "address": lambda text: ask(somebody, "PUT", "/api/profile", {"address": text}),
        "bio": lambda text: ask(somebody, "PUT", "/api/profile", {"bio": text}),
    }


MEMBERS = {
    "name": ("user", "name"),
    "name of a user": ("name",),
    "new name": ("name",),
    "deviceName": ("deviceName",),
    "description": ("description",),
    "new description": ("description",),
    "description of a value": ("description",),
    "address": ("address",),
    "bio": ("bio",),
}


@pytest.mark.parametrize("way", MEMBERS)
def test_r1_19_free_text_is_cleaned(
    ways: dict[str, Callable[[str], httpx.Response]], way: str
) -> None:
    """In the given order, by every route that takes one; its length is that of the result."""
    for written, left in CLEANED:
        answer = ways[way](written)
        assert answer.is_success, answer.text
        shown = answer.json()["data"]
        for member in MEMBERS[way]:
            shown = shown[member]
        assert shown == left, repr(written)


@pytest.mark.parametrize(
    ("way", "longest"),
    [
        ("name", 255),
        ("name of a user", 255),
        ("new name", 255),
        ("deviceName", 100),
        ("description", 500),
        ("new description", 500),
        ("description of a value", 500),
        ("address", 500),
        ("bio", 1000),
    ],
)
def test_r1_19_lengths_are_of_what_is_left(
    ways: dict[str, Callable[[str], httpx.Response]], way: str, longest: int
) -> None:
    """As much as fits with a tag about it, one more is refused; only a tag is nothing."""
    fits = f" <p>{'x' * longest}</p> "
    assert ways[way](fits).is_success
    assert refusal(ways[way](fits + "x")) == (400, "VALIDATION_ERROR")
    if way in ("name", "name of a user", "new name", "deviceName", "description", "address"):
        assert refusal(ways[way](" <p></p>\x00 ")) == (400, "VALIDATION_ERROR")


def test_r1_19_reasons_and_searches_are_cleaned(somebody: Caller, admin: Caller) -> None:
    """They are shown by the history of a payment, the history of keys, and what is found."""
    paid = {"type": "instant", "amount": "1", "description": "x", "recipientId": admin.id}
    for written, left in CLEANED:
        made = somebody.good("POST", "/api/payments", paid)["id"]
        body = {"status": "cancelled", "reason": written}
        somebody.good("PATCH", f"/api/payments/{made}/status", body)
        shown = somebody.good("GET", f"/api/payments/{made}")["transactions"][-1]
        assert shown["statusMessage"] == left
    admin.good(
        "POST", "/api/auth/admin/secrets/rotate", {"reason": " <b>cleaned</b> ", "type": "jwt"}
    )
    latest = admin.good("GET", "/api/auth/admin/secrets/rotation-history")["rotations"][0]
    assert latest["reason"] == "cleaned"
    mark = uuid.uuid4().hex
    body = {
        "email": fresh_email(),
        "password": PASSWORD,
        "name": f"{mark} \u00e9",
        "role": "VENDOR",
    }
    user = admin.good("POST", "/api/admin/users", body)["id"]
    for search in (f"  {mark}\t", f"<i>{mark}</i>", f"javascript:{mark}", f"{mark} e\u0301"):
        answer = admin.ask("gateway", "GET", "/api/admin/users", params={"search": search})
        assert [found["id"] for found in answer.json()["data"]["users"]] == [user], search


def test_r1_19_what_the_provider_writes_is_cleaned(
    somebody: Caller, admin: Caller, sign: Callable[[bytes], dict[str, str]]
) -> None:
    """Its transaction, its status and its reason for a failure."""
    paid = {"type": "instant", "amount": "1", "description": "x", "recipientId": admin.id}
    made = somebody.good("POST", "/api/payments", paid)["id"]
    request = httpx.Request(
        "POST",
        "http://x/",
        json={
            "paymentId": made,
            "status": "failed",
            "pspTransactionId": " <b>t-1</b> ",
            "pspStatus": "javascript:NO",
            "failureReason": "no onfunds = left\x00",
        },
    )
    body = request.read()

    answer = somebody.ask(
        "gateway", "POST", "/api/webhooks/payments", content=body, headers=sign(body)
    )

    assert answer.status_code == 200, answer.text
    shown = somebody.good("GET", f"/api/payments/{made}")
    assert (shown["pspTransactionId"], shown["pspStatus"], shown["failureReason"]) == (
        "t-1",
        "NO",
        "no  left",
    )


def test_r1_20_one_account_whatever_the_spelling(
    well: RunningStack, somebody: Caller, admin: Caller
) -> None:
    """Trimmed and in lower case, in bodies, paths and queries."""
    mark = uuid.uuid4().hex
    written, email = f"  {mark}.Mixed@X.Test ", f"{mark}.mixed@x.test"
    body = {"password": PASSWORD, "name": "N"}
    opened = somebody.good("POST", "/api/auth/register", {**body, "email": written})
    assert opened["user"]["email"] == email
    for spelling in (written, email, email.upper()):
        again = somebody.ask(
            "gateway", "POST", "/api/auth/register", json={**body, "email": spelling}
        )
        assert refusal(again) == (409, "EMAIL_EXISTS")
        made = admin.ask(
            "gateway",
            "POST",
            "/api/admin/users",
            json={**body, "email": spelling, "role": "VENDOR"},
        )
        assert refusal(made) == (409, "EMAIL_EXISTS")
        login = {"email": spelling, "password": PASSWORD}
        user = somebody.good("POST", "/api/auth/login", login)["user"]
        assert (user["id"], user["email"]) == (opened["user"]["id"], email)
        paid = {"type": "instant", "amount": "1", "description": "x", "recipientEmail": spelling}
        payment = somebody.good("POST", "/api/payments", paid)
        assert payment["recipient"] == {"id": opened["user"]["id"], "email": email}
        other = somebody.good("POST", "/api/payments", {**paid, "recipientEmail": admin.email})
        changed = somebody.good("PUT", f"/api/payments/{other['id']}", {"recipientEmail": spelling})
        assert changed["recipient"]["email"] == email
        path = f"/api/auth/admin/lockout/{httpx.QueryParams({'': spelling})}".replace("/=", "/")
        shown = admin.ask("gateway", "GET", path.replace("+", "%20"))
        assert shown.json()["data"]["email"] == email
        taken = admin.ask(
            "gateway", "PUT", f"/api/admin/users/{somebody.id}", json={"email": spelling}
        )
        assert refusal(taken) == (409, "EMAIL_ALREADY_EXISTS")

    def found() -> bool:
        answer = admin.ask("gateway", "GET", "/api/admin/users", params={"search": written})
        return [user["email"] for user in answer.json()["data"]["users"]] == [email]

    give_up = time.monotonic() + 10
    while not found():
        assert time.monotonic() < give_up, "the admin's copy does not show it"
        time.sleep(0.1)
    renamed = f"{mark}.New@X.Test"
    user = admin.good("PUT", f"/api/admin/users/{opened['user']['id']}", {"email": f" {renamed}"})
    assert user["email"] == renamed.lower()


def test_r1_20_at_most_255_characters(somebody: Caller, admin: Caller) -> None:
    """As long as that is an address, one more is none; by every route that takes one."""
    labels = ".".join("d" * 60 for _ in range(3))
    tail = f"@{labels}.test"
    longest = uuid.uuid4().hex + "x" * (255 - 32 - len(tail)) + tail
    assert len(longest) == 255
    body = {"password": PASSWORD, "name": "N"}
    opened = somebody.good("POST", "/api/auth/register", {**body, "email": f" {longest.upper()} "})
    assert opened["user"]["email"] == longest
    more = f"x{longest}"
    paid = {"type": "instant", "amount": "1", "description": "x"}
    for caller, method, path, given in (
        (somebody, "POST", "/api/auth/register", body),
        (somebody, "POST", "/api/auth/login", body),
        (somebody, "POST", "/api/payments", paid),
        (admin, "POST", "/api/admin/users", {**body, "role": "VENDOR"}),
        (admin, "PUT", f"/api/admin/users/{somebody.id}", {}),
    ):
        member = "recipientEmail" if given is paid else "email"
        answer = caller.ask("gateway", method, path, json={**given, member: more})
        assert refusal(answer) == (400, "VALIDATION_ERROR"), path
    shown = admin.ask("gateway", "GET", f"/api/auth/admin/lockout/{more}")
    assert refusal(shown) == (400, "VALIDATION_ERROR")


GOOD_PASSWORDS = ("Aa1 bcdefghi", "Aa1\u00a3bcdefghi", "Aa1_" + "x" * 251, "\u00c4Aa1bcdefghi")
BAD_PASSWORDS = (
    *("Aa1!bcdefgh", "Aa1!" + "x" * 252, "aa1!bcdefghi", "AA1!BCDEFGHI", "Aab!cdefghij"),
    *("Aa1bcdefghij", "", "\u00c4\u00e41!bcdefghi".upper()),
)


def test_r1_21_one_rule_for_new_passwords(
    well: RunningStack, somebody: Caller, admin: Caller
) -> None:
    """At registration, by administrators, at a change, and over GraphQL."""
    mutation = "mutation($i:RegisterInput!){register(input:$i){user{id}}}"

    def over_graphql(password: str) -> httpx.Response:
        given = {"email": fresh_email(), "password": password, "name": "N"}
        body = {"query": mutation, "variables": {"i": given}}
        return somebody.ask("gateway", "POST", "/graphql", json=body)

    def at_registration(password: str) -> httpx.Response:
        body = {"email": fresh_email(), "password": password, "name": "N"}
        return somebody.ask("gateway", "POST", "/api/auth/register", json=body)

    def by_admin(password: str) -> httpx.Response:
        body = {"email": fresh_email(), "password": password, "name": "N", "role": "VENDOR"}
        return admin.ask("gateway", "POST", "/api/admin/users", json=body)

    def at_change(password: str) -> httpx.Response:
        owner = newcomer(well)
        body = {"currentPassword": PASSWORD, "newPassword": password}
        answer = owner.ask("gateway", "POST", "/api/auth/password", json=body)
        if answer.is_success:
            Caller(well, {"email": owner.email, "password": password}).close()
        owner.close()
        return answer

    for place in (at_registration, by_admin, at_change):
        for password in GOOD_PASSWORDS:
            assert place(password).is_success, (place, password)
        for password in BAD_PASSWORDS:
            answer = place(password)
            assert refusal(answer) == (400, "VALIDATION_ERROR"), (place, password)
            for issue in answer.json()["error"]["details"]:
                assert issue["path"] in (["password"], ["newPassword"])
    for password in GOOD_PASSWORDS:
        assert over_graphql(password).json()["data"]["register"]["user"]["id"]
    for password in BAD_PASSWORDS:
        assert over_graphql(password).json()["errors"], password
