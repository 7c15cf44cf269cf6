"""Users as an administrator sees and changes them, in the running platform (R1.125-R1.137)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from system.admin.tests.platform_client import (
    PASSWORD,
    Person,
    Stack,
    client,
    register,
    rows,
    sign_in,
    until,
)

pytestmark = pytest.mark.platform

USERS = "/api/admin/users"
FIELDS = {"id", "email", "name", "role", "status", "createdAt", "updatedAt"}
Newcomer = Callable[[], Person]


def make(admin: Person, role: str = "CUSTOMER", **changes: Any) -> dict[str, Any]:
    """Create a user; give the admin user object."""
    body = {
        "email": f"{uuid.uuid4()}@made.test",
        "password": PASSWORD,
        "name": "Made",
        "role": role,
        **changes,
    }
    made: dict[str, Any] = admin.good("POST", USERS, body)
    return made


def found(admin: Person, **query: Any) -> list[dict[str, Any]]:
    """The users of a list."""
    data: dict[str, Any] = admin.good("GET", USERS, query=query)
    listed: list[dict[str, Any]] = data["users"]
    return listed


def become_the_only_one(stack: Stack, admin: Person) -> None:
    """Take administrators away that other tests have left."""
    others = "SELECT id FROM users WHERE role = 'ADMIN' AND status = 'active' AND id <> %s"
    for (other,) in rows(stack, "auth", others, admin.id):
        admin.good("DELETE", f"{USERS}/{other}")


def actions_about(stack: Stack, user_id: str) -> list[str]:
    """The audited actions about a user, in order."""
    return [
        row[0]
        for row in rows(
            stack,
            "admin",
            "SELECT action FROM audit_logs WHERE resource_id = %s ORDER BY created_at",
            user_id,
        )
    ]


def test_r1_134_seeded_users_are_listed(stack: Stack, admin: Person) -> None:
    """All of auth_db, with their roles."""
    for role in ("admin", "customer", "vendor"):
        email = stack.account(role)["email"]
        listed = found(admin, search=email)
        assert [(user["email"], user["role"]) for user in listed] == [(email, role.upper())]


def test_r1_134_users_without_an_event_come_by_reconciliation(stack: Stack, admin: Person) -> None:
    """An account that no event told of is listed within 10 s of a start; a lost one is not."""
    made = make(admin)
    lost = make(admin)
    rows(stack, "admin", "DELETE FROM users WHERE id = %s RETURNING id", made["id"])
    rows(stack, "auth", "DELETE FROM users WHERE id = %s RETURNING id", lost["id"])
    assert found(admin, search=made["email"]) == []

    stack.control("admin", "restart")

    until(lambda: found(admin, search=made["email"]) == [made], 10)
    until(lambda: found(admin, search=lost["email"]) == [], 10)


def test_r0_10_r1_134_a_start_without_auth_service(stack: Stack, admin: Person) -> None:
    """Admin serves its copy meanwhile, and completes it within 10 s of auth-service's return."""
    made = make(admin)
    rows(stack, "admin", "DELETE FROM users WHERE id = %s RETURNING id", made["id"])
    stack.control("auth", "stop")
    try:
        stack.control("admin", "restart")
        assert found(admin, search=admin.email) != []
        assert found(admin, search=made["email"]) == []
    finally:
        stack.control("auth", "start")

    until(lambda: found(admin, search=made["email"]) == [made], 10)
    stack.until_ready()


def test_r1_125_r1_127_the_admin_user_object(admin: Person) -> None:
    """Exactly these fields; malformed 400, unknown 404."""
    made = make(admin, name="  <b>Ann</b> ")

    assert set(made) == FIELDS
    assert (made["name"], made["role"], made["status"]) == ("Ann", "CUSTOMER", "active")
    answer = admin.ask("GET", f"{USERS}/{made['id']}")
    assert (answer.json()["data"], answer.headers["X-Cache"]) == (made, "BYPASS")
    assert admin.code("GET", f"{USERS}/{uuid.uuid4()}") == (404, "USER_NOT_FOUND")
    assert admin.code("GET", f"{USERS}/7") == (400, "VALIDATION_ERROR")


def test_r1_126_lists_filter_sort_and_page(admin: Person) -> None:
    """Search is a part of e-mail or name in any case, and % and _ mean themselves."""
    mark = uuid.uuid4().hex[:12]
    names = [f"Zoë 50% {mark}", f"ann_b {mark}", f"annxb {mark}", f"Bob\\ {mark}"]
    made = [make(admin, role="VENDOR", name=name) for name in names]
    admin.good("PATCH", f"{USERS}/{made[3]['id']}/status", {"isActive": False})

    def listed(search: str = mark, **query: Any) -> list[str]:
        users = found(admin, search=search, **query)
        return [user["name"].partition(f" {mark}")[0] for user in users]

    assert sorted(listed()) == ["Bob\\", "Zoë 50%", "ann_b", "annxb"]
    assert listed(mark.upper(), sort="name", order="asc") == ["Bob\\", "Zoë 50%", "ann_b", "annxb"]
    assert listed(f"50% {mark}") == ["Zoë 50%"]
    assert listed(f"ZOË 50% {mark}") == ["Zoë 50%"]
    assert listed(f"ann_b {mark}") == ["ann_b"]
    assert listed(f"bob\\ {mark}") == ["Bob\\"]
    assert listed(f"%{mark}") == []
    assert [user["email"] for user in found(admin, search=made[0]["email"].upper())] == [
        made[0]["email"]
    ]
    assert listed(status="suspended") == ["Bob\\"]
    assert listed(role="ADMIN") == []
    assert listed(sort="createdAt", order="asc") == ["Zoë 50%", "ann_b", "annxb", "Bob\\"]
    assert listed() == ["Bob\\", "annxb", "ann_b", "Zoë 50%"]
    emails = [user["email"] for user in found(admin, search=mark, sort="email", order="asc")]
    assert emails == sorted(emails)
    page = admin.good("GET", USERS, query={"search": mark, "page": 2, "limit": 3})
    assert page["pagination"] == {"page": 2, "limit": 3, "total": 4, "totalPages": 2}
    assert [user["id"] for user in page["users"]] == [made[0]["id"]]
    beyond = admin.good("GET", USERS, query={"search": mark, "page": 9})
    assert (beyond["users"], beyond["pagination"]["total"]) == ([], 4)


def test_r1_128_a_created_user_can_sign_in(stack: Stack, admin: Person) -> None:
    """With the given role; a taken address is 409; audited once, by the administrator."""
    made = make(admin, role="VENDOR")

    person = Person(stack, made["email"], PASSWORD)
    me = person.good("GET", "/api/auth/me")
    person.close()
    again = {"email": made["email"].upper(), "password": PASSWORD, "name": "x", "role": "ADMIN"}

    assert (me["id"], me["role"]) == (made["id"], "VENDOR")
    assert admin.code("POST", USERS, again) == (409, "EMAIL_EXISTS")
    until(lambda: "USER_CREATED" in actions_about(stack, made["id"]))
    assert rows(
        stack,
        "admin",
        "SELECT user_id, ip_address FROM audit_logs "
        "WHERE resource_id = %s AND action = 'USER_CREATED'",
        made["id"],
    ) == [(admin.id, stack.exempt)]


def test_r1_129_a_renamed_user(stack: Stack, admin: Person, newcomer: Newcomer) -> None:
    """In force at once: in the copy, in auth-service; a taken address is 409."""
    person, other = newcomer(), newcomer()
    email = f"{uuid.uuid4()}@renamed.test"

    changed = admin.good("PUT", f"{USERS}/{person.id}", {"name": "Renamed", "email": email})

    assert (changed["name"], changed["email"]) == ("Renamed", email)
    assert admin.good("GET", f"{USERS}/{person.id}") == changed
    assert person.good("GET", "/api/auth/me")["email"] == email
    assert admin.code("PUT", f"{USERS}/{person.id}", {"email": other.email}) == (
        409,
        "EMAIL_ALREADY_EXISTS",
    )
    assert admin.code("PUT", f"{USERS}/{uuid.uuid4()}", {"name": "x"}) == (404, "USER_NOT_FOUND")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_r1_130_r1_133_a_promoted_user(
    stack: Stack, admin: Person, newcomer: Newcomer, method: str
) -> None:
    """Old tokens are refused, the next token has the role, the next GET shows it."""
    person = newcomer()

    changed = admin.good(method, f"{USERS}/{person.id}/role", {"role": "VENDOR"})

    assert changed["role"] == "VENDOR"
    assert admin.good("GET", f"{USERS}/{person.id}") == changed
    until(lambda: person.ask("GET", "/api/auth/me").status_code == 401, 1)
    assert person.code("GET", "/api/auth/me") == (401, "TOKEN_REVOKED")
    again = Person(stack, person.email, PASSWORD)
    assert again.good("GET", "/api/auth/me")["role"] == "VENDOR"
    again.close()


def test_r1_131_r1_136_a_suspended_user(stack: Stack, admin: Person, newcomer: Newcomer) -> None:
    """No login, no refresh, no token; once more changes nothing; back again all is well."""
    person = newcomer()
    path = f"{USERS}/{person.id}/status"

    suspended = admin.good("PATCH", path, {"isActive": False, "reason": "why"})
    again = admin.good("PATCH", path, {"isActive": False})

    assert suspended["status"] == "suspended"
    assert again == suspended == admin.good("GET", f"{USERS}/{person.id}")
    until(lambda: person.ask("GET", "/api/auth/me").status_code == 401, 1)
    with client(stack) as http:
        login = http.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
        refresh = http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    assert login.json()["error"]["code"] == "ACCOUNT_SUSPENDED"
    assert refresh.json()["error"]["code"] == "TOKEN_REVOKED"
    assert admin.good("PATCH", path, {"isActive": True})["status"] == "active"
    Person(stack, person.email, PASSWORD).close()
    until(lambda: actions_about(stack, person.id).count("USER_STATUS_CHANGED") == 2)


def test_r1_132_r1_137_a_deleted_user(stack: Stack, admin: Person, newcomer: Newcomer) -> None:
    """Gone everywhere, the profile too; the address is free for somebody new."""
    person = newcomer()
    person.good("PUT", "/api/profile", {"bio": "x"})
    paid = {
        "amount": "1.00",
        "currency": "EUR",
        "type": "instant",
        "description": "x",
        "recipientEmail": stack.account("vendor")["email"],
    }
    payment = person.good("POST", "/api/payments", paid)
    path = f"{USERS}/{person.id}"

    answer = admin.ask("DELETE", path)

    assert (answer.status_code, answer.content) == (204, b"")
    assert admin.code("GET", path) == (404, "USER_NOT_FOUND")
    assert found(admin, search=person.email) == []
    assert admin.code("DELETE", path) == (404, "USER_NOT_FOUND")
    until(lambda: person.ask("GET", "/api/profile").status_code == 401, 1)
    profiles = "SELECT id FROM user_profiles WHERE user_id = %s"
    until(lambda: rows(stack, "profile", profiles, person.id) == [])
    until(lambda: actions_about(stack, person.id).count("USER_DELETED") == 1)
    shown = f"deleted-{person.id}@deleted.invalid"
    sender = f"/api/payments/{payment['id']}"
    until(lambda: admin.good("GET", sender)["sender"] == {"id": person.id, "email": shown})
    made = make(admin, email=person.email)
    assert made["id"] != person.id
    assert found(admin, search=person.email) == [made]


def test_r1_135_the_last_admin_and_oneself(stack: Stack, admin: Person) -> None:
    """The last one cannot go; with a second one, it is only oneself that is out of reach."""
    become_the_only_one(stack, admin)
    path = f"{USERS}/{admin.id}"
    acts = [
        ("DEMOTE", "PUT", f"{path}/role", {"role": "CUSTOMER"}),
        ("SUSPEND", "PATCH", f"{path}/status", {"isActive": False}),
        ("DELETE", "DELETE", path, None),
    ]
    for act, method, where, body in acts:
        assert admin.code(method, where, body) == (403, f"CANNOT_{act}_LAST_ADMIN")

    second = make(admin, role="ADMIN")
    for _, method, where, body in acts:
        assert admin.code(method, where, body) == (403, "CANNOT_MODIFY_SELF")
    admin.good("DELETE", f"{USERS}/{second['id']}")
    assert admin.good("GET", path)["role"] == "ADMIN"


def test_r1_135_two_admins_cannot_remove_each_other(stack: Stack, admin: Person) -> None:
    """Of two requests that race one is refused, and an administrator is left."""
    become_the_only_one(stack, admin)
    for _ in range(3):
        second = make(admin, role="ADMIN")
        other = Person(stack, second["email"], PASSWORD)
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(
                    lambda pair: pair[0].ask(
                        "PUT", f"{USERS}/{pair[1]}/role", {"role": "CUSTOMER"}
                    ),
                    [(admin, other.id), (other, admin.id)],
                )
            )
        left = rows(
            stack, "auth", "SELECT id FROM users WHERE role = 'ADMIN' AND status = 'active'"
        )
        assert len(left) == 1
        assert sorted(answer.is_success for answer in answers) == [False, True]
        winner = admin if left == [(admin.id,)] else other
        if winner is other:
            other.good("PUT", f"{USERS}/{admin.id}/role", {"role": "ADMIN"})
            back = sign_in(stack, "admin")
            admin.http.headers["Authorization"] = back.http.headers["Authorization"]
            back.close()
        admin.good("DELETE", f"{USERS}/{other.id}")
        other.close()


def test_r1_136_the_present_role_again(stack: Stack, admin: Person, newcomer: Newcomer) -> None:
    """200 without event, audit row or revocation."""
    person = newcomer()
    until(lambda: "USER_REGISTERED" in actions_about(stack, person.id))
    before = admin.good("GET", f"{USERS}/{person.id}")

    same = admin.good("PUT", f"{USERS}/{person.id}/role", {"role": "CUSTOMER"})
    active = admin.good("PATCH", f"{USERS}/{person.id}/status", {"isActive": True})

    assert before == same == active
    assert person.ask("GET", "/api/auth/me").status_code == 200
    events = rows(
        stack,
        "auth",
        "SELECT event_type FROM outbox WHERE envelope->'data'->>'userId' = %s ORDER BY seq",
        person.id,
    )
    assert [event for (event,) in events] == ["user.created", "user.login"]


def test_r1_137_without_auth_service_nothing_changes(
    stack: Stack, admin: Person, newcomer: Newcomer
) -> None:
    """Every command is 503; lists go on."""
    person = newcomer()
    until(lambda: found(admin, search=person.email))
    before = admin.good("GET", f"{USERS}/{person.id}")
    path = f"{USERS}/{person.id}"
    new = {"email": "n@x.test", "password": PASSWORD, "name": "N", "role": "ADMIN"}
    stack.control("auth", "stop")
    try:
        refused = [
            admin.code("POST", USERS, new),
            admin.code("PUT", path, {"name": "x"}),
            admin.code("PUT", f"{path}/role", {"role": "VENDOR"}),
            admin.code("PATCH", f"{path}/status", {"isActive": False}),
            admin.code("DELETE", path),
        ]
        during = admin.good("GET", path)
    finally:
        stack.control("auth", "start")
    stack.until_ready()

    assert refused == [(503, "SERVICE_UNAVAILABLE")] * 5
    assert during == admin.good("GET", path) == before
    assert admin.good("PUT", path, {"name": "After"})["name"] == "After"


def test_r1_137_a_hanging_auth_service_is_503_in_time(
    stack: Stack, admin: Person, newcomer: Newcomer
) -> None:
    """Not a 504 of the gateway."""
    person = newcomer()
    assert admin.ask("GET", USERS).status_code == 200
    stack.control("auth", "pause")
    try:
        refused = admin.code("PUT", f"{USERS}/{person.id}", {"name": "x"})
    finally:
        stack.control("auth", "resume")
    stack.until_ready()

    assert refused == (503, "SERVICE_UNAVAILABLE")


def test_r1_126_only_administrators(stack: Stack, newcomer: Newcomer) -> None:
    """Anybody else is 403 at gateway and service, before any other fault."""
    person = newcomer()
    for method, path, body in (
        ("GET", f"{USERS}?limit=0", None),
        ("POST", USERS, {}),
        ("DELETE", f"{USERS}/7", None),
        ("GET", "/api/admin/config", None),
        ("GET", "/api/admin/health", None),
    ):
        assert person.code(method, path, body) == (403, "FORBIDDEN")
        assert person.code(method, stack.services["admin"] + path, body) == (403, "FORBIDDEN")


def test_r2_21_changes_by_others_reach_the_copy(stack: Stack, admin: Person) -> None:
    """A registration is listed within 5 s, with the times auth-service gave it."""
    person = register(stack, "Fresh")
    listed = until(lambda: found(admin, search=person.email))
    me = person.good("GET", "/api/auth/me")
    person.close()

    assert listed == [{**me, "status": "active"}]
