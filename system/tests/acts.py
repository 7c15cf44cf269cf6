"""Acts of clients, each with the events that have to tell of it (R3.22-R3.41)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from system.tests.scene import LATER, NOW, PASSWORD, Json, Person, Scene, Told


def revoked(session: Person, reason: str, device: str | None = None) -> tuple[str, Json]:
    """R3.31."""
    data = {"userId": session.id, "sessionId": session.sid, "deviceId": device}
    return "session.revoked", {**data, "reason": reason, "timestamp": NOW}


def parties(payment: Json, **more: Any) -> Json:
    """What every event of a payment tells."""
    names = ("senderId", "recipientId", "amount", "currency", "status")
    return {"paymentId": payment["id"], **{name: payment[name] for name in names}, **more}


# ---- R3.23 to R3.27: accounts


def registration(scene: Scene) -> Told:
    scene.act()
    person = scene.register()
    data = person.snapshot(origin="registration", createdAt=person.user["createdAt"])
    return Told(person.id, [("user.created", data)])


def creation_by_admin(scene: Scene) -> Told:
    admin = scene.admin
    body = {"email": f"{uuid.uuid4()}@X.test", "password": PASSWORD, "name": "N", "role": "VENDOR"}
    scene.act()
    user = scene.good("POST", "/api/admin/users", body, admin)
    data = {
        "userId": user["id"],
        "email": body["email"].lower(),
        "name": "N",
        "role": "VENDOR",
        "status": "active",
        "emailVerified": False,
        "userVersion": 1,
        "origin": "admin",
        "createdAt": user["createdAt"],
    }
    return Told(admin.id, [("user.created", data)])


def change_of_name_and_email(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    changes = {"name": "Other", "email": f"{uuid.uuid4()}@x.test"}
    scene.act()
    scene.good("PUT", f"/api/admin/users/{person.id}", changes, admin)
    data = person.snapshot(**changes, userVersion=2, changes=["name", "email"], updatedAt=NOW)
    return Told(admin.id, [("user.updated", data)])


def change_to_the_same_name(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    path = f"/api/admin/users/{person.id}"
    scene.good("PUT", path, {"name": "New", "email": person.email.upper()}, admin)
    return Told(admin.id, [])


def change_of_role(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    scene.good("PATCH", f"/api/admin/users/{person.id}/role", {"role": "VENDOR"}, admin)
    data = person.snapshot(
        role="VENDOR", userVersion=2, oldRole="CUSTOMER", newRole="VENDOR", updatedAt=NOW
    )
    return Told(admin.id, [("user.role_changed", data), revoked(person, "role_changed")])


def change_of_role_by_graphql(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    scene.graphql(admin, "mutation($i:ID!){updateUserRole(id:$i,role:VENDOR){id}}", i=person.id)
    data = person.snapshot(
        role="VENDOR", userVersion=2, oldRole="CUSTOMER", newRole="VENDOR", updatedAt=NOW
    )
    return Told(admin.id, [("user.role_changed", data), revoked(person, "role_changed")])


def suspension(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    body = {"isActive": False, "reason": "a doubt"}
    scene.good("PATCH", f"/api/admin/users/{person.id}/status", body, admin)
    data = person.snapshot(status="suspended", userVersion=2, reason="a doubt", updatedAt=NOW)
    return Told(admin.id, [("user.status_changed", data), revoked(person, "suspended")])


def reactivation(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    path = f"/api/admin/users/{person.id}/status"
    scene.good("PATCH", path, {"isActive": False}, admin)
    scene.act()
    scene.good("PATCH", path, {"isActive": True}, admin)
    data = person.snapshot(userVersion=3, updatedAt=NOW)
    return Told(admin.id, [("user.status_changed", data)])


def deletion(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    scene.good("DELETE", f"/api/admin/users/{person.id}", None, admin)
    data = {"userId": person.id, "email": person.email, "userVersion": 2, "deletedAt": NOW}
    return Told(admin.id, [("user.deleted", data), revoked(person, "deleted")])


# ---- R3.28 to R3.33: sessions and credentials


def login(scene: Scene) -> Told:
    email = scene.register().email
    scene.act()
    person = scene.login(email)
    return Told(person.id, [("user.login", scene.seen(person, loginAt=NOW))])


def login_on_a_device(scene: Scene) -> Told:
    email = scene.register().email
    scene.act()
    person = scene.login(email, X_Device_ID="laptop.1")
    data = scene.seen(person, deviceId="laptop.1", loginAt=NOW)
    return Told(person.id, [("user.login", data)])


def logout_everywhere(scene: Scene) -> Told:
    first = scene.register()
    second = scene.login(first.email, X_Device_ID="laptop.1")
    scene.act()
    scene.good("POST", "/api/auth/logout", {"logoutAll": True}, second)
    data = scene.seen(second, deviceId="laptop.1", logoutAt=NOW)
    events = [revoked(first, "logout"), revoked(second, "logout", "laptop.1")]
    return Told(first.id, [("user.logout", data), *events])


def logout_of_another_session_too(scene: Scene) -> Told:
    first = scene.register()
    second = scene.login(first.email)
    scene.act()
    body = {"refreshToken": first.session["refreshToken"]}
    scene.good("POST", "/api/auth/logout", body, second)
    events = [revoked(first, "logout"), revoked(second, "logout")]
    return Told(first.id, [("user.logout", scene.seen(second, logoutAt=NOW)), *events])


def logout_by_graphql(scene: Scene) -> Told:
    person = scene.register()
    scene.act()
    scene.graphql(person, "mutation{logout}")
    data = scene.seen(person, logoutAt=NOW)
    return Told(person.id, [("user.logout", data), revoked(person, "logout")])


def wrong_password(scene: Scene) -> Told:
    person = scene.register()
    scene.act()
    body = {"email": person.email, "password": "wrong"}
    assert scene.send("POST", "/api/auth/login", body).status_code == 401
    data = scene.tried(person.email, person.id, attemptedAt=NOW)
    return Told(person.id, [("user.login_failed", data)])


def unknown_email(scene: Scene) -> Told:
    email = f"{uuid.uuid4()}@x.test"
    scene.act()
    body = {"email": email, "password": "wrong"}
    assert scene.send("POST", "/api/auth/login", body).status_code == 401
    data = scene.tried(email, None, attemptedAt=NOW)
    return Told(None, [("user.login_failed", data)])


def _lock(scene: Scene, person: Person) -> None:
    body = {"email": person.email, "password": "wrong"}
    while True:
        scene.act()
        error = scene.send("POST", "/api/auth/login", body).json()["error"]
        if error["code"] == "ACCOUNT_LOCKED":
            return
        if error["code"] == "TOO_MANY_ATTEMPTS":
            time.sleep(error["details"]["waitSeconds"])


def wrong_current_password(scene: Scene) -> Told:
    person = scene.register()
    scene.act()
    body = {"currentPassword": "wrong", "newPassword": "Another-Pass-456!"}
    assert scene.send("POST", "/api/auth/password", body, person).status_code == 401
    data = scene.tried(person.email, person.id, attemptedAt=NOW)
    return Told(person.id, [("user.login_failed", data)])


def fifth_wrong_password(scene: Scene) -> Told:
    person = scene.register()
    _lock(scene, person)
    failed = scene.tried(person.email, person.id, attemptedAt=NOW)
    locked = scene.tried(person.email, person.id, scope="pair", lockedUntil=LATER)
    return Told(person.id, [("user.login_failed", failed), ("user.locked", locked)])


def unlocking(scene: Scene) -> Told:
    admin, person = scene.admin, scene.register()
    scene.act()
    scene.good("POST", f"/api/auth/admin/unlock/{person.email}", None, admin)
    data = scene.tried(person.email, person.id, unlockedAt=NOW)
    return Told(admin.id, [("user.unlocked", data)])


def unlocking_of_nobody(scene: Scene) -> Told:
    admin, email = scene.admin, f"{uuid.uuid4()}@x.test"
    scene.act()
    scene.good("POST", f"/api/auth/admin/unlock/{email}", None, admin)
    return Told(admin.id, [("user.unlocked", scene.tried(email, None, unlockedAt=NOW))])


def change_of_password(scene: Scene) -> Told:
    first = scene.register()
    second = scene.login(first.email)
    scene.act()
    new = "Another-Pass-456!"
    scene.secrets.add(new)
    body = {"currentPassword": PASSWORD, "newPassword": new}
    scene.good("POST", "/api/auth/password", body, second)
    changed = ("user.password_changed", {"userId": first.id, "changedAt": NOW})
    ended = [revoked(session, "password_changed") for session in (first, second)]
    return Told(first.id, [changed, *ended])


def removal_of_a_device(scene: Scene) -> Told:
    person = scene.register()
    other = scene.login(person.email, X_Device_ID="laptop.1")
    scene.act()
    scene.good("DELETE", "/api/auth/devices/laptop.1", None, person)
    return Told(person.id, [revoked(other, "device_revoked", "laptop.1")])


def end_of_a_session(scene: Scene) -> Told:
    person = scene.register()
    other = scene.login(person.email)
    scene.act()
    scene.good("DELETE", f"/api/auth/sessions/{other.sid}", None, person)
    return Told(person.id, [revoked(other, "session_revoked")])


def end_of_all_others(scene: Scene) -> Told:
    other = scene.register()
    person = scene.login(other.email, X_Device_ID="laptop.1")
    scene.act()
    body = {"currentDeviceId": "laptop.1"}
    scene.good("POST", "/api/auth/devices/logout-others", body, person)
    return Told(person.id, [revoked(other, "logout_others")])


def reuse_of_a_token(scene: Scene) -> Told:
    person = scene.register()
    body = {"refreshToken": person.session["refreshToken"]}
    scene.secrets |= set(scene.good("POST", "/api/auth/refresh", body).values()) - {"15m"}
    scene.act()
    assert scene.send("POST", "/api/auth/refresh", body).status_code == 401
    data = {"userId": person.id, "sessionId": person.sid, "ipAddress": scene.stack.exempt}
    detected = ("token.reuse_detected", {**data, "detectedAt": NOW})
    return Told(person.id, [detected, revoked(person, "token_reuse")])


def rotation(scene: Scene) -> Told:
    admin = scene.admin
    status = scene.good("GET", "/api/auth/admin/secrets/status", None, admin)
    old = {
        kind: next(key["kid"] for key in status[f"{kind}Secrets"] if key["isActive"])
        for kind in ("jwt", "refresh")
    }
    scene.act()
    body = {"type": "both", "reason": "a test"}
    new = scene.good("POST", "/api/auth/admin/secrets/rotate", body, admin)["rotated"]
    internal = {"X-Internal-Token": scene.stack.target["access"]["internal"]["token"]}
    keys = httpx.get(f"{scene.stack.services['auth']}/internal/keys", headers=internal).json()
    scene.secrets |= {key["secret"] for key in keys["data"]["access"]}
    events = [
        {"kind": kind, "oldKid": old[kind], "newKid": new[kind]["kid"], "reason": "a test"}
        for kind in ("jwt", "refresh")
    ]
    return Told(admin.id, [("secrets.rotated", {**data, "rotatedAt": NOW}) for data in events])


# ---- R3.34 to R3.38: payments


def payment(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    scene.act()
    made = scene.payment(payer, payee)
    assert (made["amount"], made["senderId"], made["recipientId"]) == ("100.50", payer.id, payee.id)
    more = {"type": "instant", "description": "x", "createdAt": made["createdAt"]}
    return Told(payer.id, [("payment.created", parties(made, **more))])


def payment_by_graphql(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    given = {"type": "SCHEDULED", "amount": "2.00", "description": "x", "recipientId": payee.id}
    scene.act()
    document = "mutation($i:CreatePaymentInput!){createPayment(input:$i){id createdAt}}"
    made = scene.graphql(payer, document, i=given)["createPayment"]
    data = {
        "paymentId": made["id"],
        "senderId": payer.id,
        "recipientId": payee.id,
        "amount": "2.00",
        "currency": "INR",
        "type": "scheduled",
        "description": "x",
        "status": "pending",
        "createdAt": made["createdAt"],
    }
    return Told(payer.id, [("payment.created", data)])


def change_of_payment(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    made = scene.payment(payer, payee)
    scene.act()
    body = {"amount": 7, "currency": "eur"}
    scene.good("PUT", f"/api/payments/{made['id']}", body, payer)
    data = parties({**made, "amount": "7.00", "currency": "EUR"})
    data |= {"changes": ["amount", "currency"], "updatedAt": NOW}
    return Told(payer.id, [("payment.updated", data)])


def change_of_recipient(scene: Scene) -> Told:
    payer, payee, other = (scene.register() for _ in range(3))
    made = scene.payment(payer, payee)
    scene.act()
    scene.graphql(
        payer,
        "mutation($i:ID!,$to:ID!){updatePayment(id:$i,input:{recipientId:$to}){id}}",
        i=made["id"],
        to=other.id,
    )
    data = parties({**made, "recipientId": other.id}, changes=["recipientId"], updatedAt=NOW)
    return Told(payer.id, [("payment.updated", {**data, "previousRecipientId": payee.id})])


def change_of_everything_else(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    made = scene.payment(payer, payee)
    scene.act()
    body = {"type": "recurring", "description": "y", "metadata": {"a": 1}}
    scene.good("PUT", f"/api/payments/{made['id']}", body, payer)
    data = parties(made, changes=["type", "description", "metadata"], updatedAt=NOW)
    return Told(payer.id, [("payment.updated", data)])


def change_of_recipient_by_email(scene: Scene) -> Told:
    payer, payee, other = (scene.register() for _ in range(3))
    made = scene.payment(payer, payee)
    scene.act()
    path = f"/api/payments/{made['id']}"
    scene.good("PUT", path, {"recipientEmail": other.email.upper()}, payer)
    data = parties({**made, "recipientId": other.id}, changes=["recipientId"], updatedAt=NOW)
    return Told(payer.id, [("payment.updated", {**data, "previousRecipientId": payee.id})])


def _status(scene: Scene, status: str, before: str | None = None, **reason: str) -> Json:
    """A payment that an administrator brings to a status; as it is then."""
    payer, payee = scene.register(), scene.register()
    path = f"/api/payments/{scene.payment(payer, payee)['id']}/status"
    if before is not None:
        scene.good("PATCH", path, {"status": before}, scene.admin)
    assert scene.admin
    scene.act()
    done: Json = scene.good("PATCH", path, {"status": status, **reason}, scene.admin)
    return done


def processing(scene: Scene) -> Told:
    done = _status(scene, "processing")
    data = parties(done, changes=["status"], updatedAt=NOW)
    return Told(scene.admin.id, [("payment.updated", data)])


def completion(scene: Scene) -> Told:
    done = _status(scene, "completed", "processing")
    data = parties(done, completedAt=done["completedAt"])
    return Told(scene.admin.id, [("payment.completed", data)])


def failure(scene: Scene) -> Told:
    done = _status(scene, "failed", "processing", reason="no cover")
    data = parties(done, failureReason="no cover", failedAt=NOW)
    return Told(scene.admin.id, [("payment.failed", data)])


def completion_by_graphql(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    made = scene.payment(payer, payee)
    path = f"/api/payments/{made['id']}/status"
    scene.good("PATCH", path, {"status": "processing"}, scene.admin)
    scene.act()
    document = "mutation($i:ID!){updatePaymentStatus(id:$i,status:COMPLETED){completedAt}}"
    done = scene.graphql(scene.admin, document, i=made["id"])["updatePaymentStatus"]
    data = parties({**made, "status": "completed"}, completedAt=done["completedAt"])
    return Told(scene.admin.id, [("payment.completed", data)])


def failure_without_a_reason(scene: Scene) -> Told:
    done = _status(scene, "failed", "processing")
    data = parties(done, failureReason="Payment failed", failedAt=NOW)
    return Told(scene.admin.id, [("payment.failed", data)])


def cancellation(scene: Scene) -> Told:
    done = _status(scene, "cancelled", reason="a mistake")
    data = parties(done, cancelReason="a mistake", cancelledAt=NOW)
    return Told(scene.admin.id, [("payment.cancelled", data)])


def cancellation_by_graphql(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    made = scene.payment(payer, payee)
    scene.act()
    scene.graphql(payer, "mutation($i:ID!){deletePayment(id:$i)}", i=made["id"])
    data = parties({**made, "status": "cancelled"}, cancelledAt=NOW)
    return Told(payer.id, [("payment.cancelled", data)])


def word_of_the_provider(scene: Scene) -> Told:
    payer, payee = scene.register(), scene.register()
    made = scene.payment(payer, payee)
    scene.act()
    scene.provider(paymentId=made["id"], status="failed", failureReason="no cover")
    first = parties({**made, "status": "processing"}, changes=["status"], updatedAt=NOW)
    last = parties({**made, "status": "failed"}, failureReason="no cover", failedAt=NOW)
    return Told(None, [("payment.updated", first), ("payment.failed", last)], psp=True)


# ---- R3.39, R3.40: profiles and configuration


def profile(scene: Scene) -> Told:
    person = scene.register()
    scene.act()
    scene.good("PUT", "/api/profile", {"bio": "b", "address": "a"}, person)
    data = {"userId": person.id, "fields": ["address", "bio"], "updatedAt": NOW}
    return Told(person.id, [("profile.updated", data)])


def profile_as_it_was(scene: Scene) -> Told:
    person = scene.register()
    scene.good("PUT", "/api/profile", {"bio": "b"}, person)
    scene.act()
    scene.good("PUT", "/api/profile", {"bio": "b"}, person)
    scene.good("PUT", "/api/profile/preferences", {}, person)
    return Told(person.id, [])


def preferences_by_graphql(scene: Scene) -> Told:
    person = scene.register()
    scene.act()
    document = 'mutation{updateProfile(input:{preferences:{theme:"dark"}}){id}}'
    scene.graphql(person, document)
    data = {"userId": person.id, "fields": ["preferences"], "updatedAt": NOW}
    return Told(person.id, [("profile.updated", data)])


def configuration(scene: Scene) -> Told:
    admin, name = scene.admin, f"k{uuid.uuid4().hex}"
    scene.act()
    scene.good("PUT", f"/api/admin/config/{name}", {"value": {"a": 1}}, admin)
    data = {"key": name, "updatedBy": admin.id, "updatedAt": NOW}
    return Told(admin.id, [("config.updated", data)])


def configuration_by_graphql(scene: Scene) -> Told:
    admin, name = scene.admin, f"k{uuid.uuid4().hex}"
    scene.act()
    document = "mutation($k:String!){updateSystemConfig(key:$k,value:1){key}}"
    scene.graphql(admin, document, k=name)
    data = {"key": name, "updatedBy": admin.id, "updatedAt": NOW}
    return Told(admin.id, [("config.updated", data)])


ACTS: tuple[Callable[[Scene], Told], ...] = (
    registration,
    creation_by_admin,
    change_of_name_and_email,
    change_to_the_same_name,
    change_of_role,
    change_of_role_by_graphql,
    suspension,
    reactivation,
    deletion,
    login,
    login_on_a_device,
    logout_everywhere,
    logout_of_another_session_too,
    logout_by_graphql,
    wrong_password,
    unknown_email,
    wrong_current_password,
    fifth_wrong_password,
    unlocking,
    unlocking_of_nobody,
    change_of_password,
    removal_of_a_device,
    end_of_a_session,
    end_of_all_others,
    reuse_of_a_token,
    rotation,
    payment,
    payment_by_graphql,
    change_of_payment,
    change_of_everything_else,
    change_of_recipient,
    change_of_recipient_by_email,
    processing,
    completion,
    completion_by_graphql,
    failure,
    failure_without_a_reason,
    cancellation,
    cancellation_by_graphql,
    word_of_the_provider,
    profile,
    profile_as_it_was,
    preferences_by_graphql,
    configuration,
    configuration_by_graphql,
)
