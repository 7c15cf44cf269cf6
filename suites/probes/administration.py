"""Accounts as their owner and an administrator change them; each call gives the exchange."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange
from suites.probes.accounts import Session


def change_password(client: httpx.Client, session: Session, current: str, new: str) -> Exchange:
    """The owner sets another password."""
    body = {"currentPassword": current, "newPassword": new}
    return exchange(client, "POST", "/api/auth/password", headers=session.headers, json=body)


def create(client: httpx.Client, admin: Session, email: str, password: str, role: str) -> Exchange:
    """An administrator makes an account."""
    body = {"email": email, "password": password, "name": "Trial", "role": role}
    return exchange(client, "POST", "/api/admin/users", headers=admin.headers, json=body)


def rename(client: httpx.Client, admin: Session, user_id: str, name: str) -> Exchange:
    """An administrator changes a person's name."""
    path = f"/api/admin/users/{user_id}"
    return exchange(client, "PUT", path, headers=admin.headers, json={"name": name})


def change_role(client: httpx.Client, admin: Session, user_id: str, role: str) -> Exchange:
    """An administrator gives a person another role."""
    path = f"/api/admin/users/{user_id}/role"
    return exchange(client, "PUT", path, headers=admin.headers, json={"role": role})


def change_status(client: httpx.Client, admin: Session, user_id: str, active: bool) -> Exchange:
    """An administrator suspends a person or lets him in again."""
    path = f"/api/admin/users/{user_id}/status"
    body = {"isActive": active, "reason": "trial"}
    return exchange(client, "PATCH", path, headers=admin.headers, json=body)


def delete(client: httpx.Client, admin: Session, user_id: str) -> Exchange:
    """An administrator deletes a person."""
    return exchange(client, "DELETE", f"/api/admin/users/{user_id}", headers=admin.headers)


def remove_device(client: httpx.Client, session: Session, device: str) -> Exchange:
    """The owner takes a device off his list."""
    return exchange(client, "DELETE", f"/api/auth/devices/{device}", headers=session.headers)


def update_profile(
    client: httpx.Client, session: Session, bio: str, *, headers: Mapping[str, str] | None = None
) -> Exchange:
    """The owner changes his profile."""
    sent = {**session.headers, **(headers or {})}
    return exchange(client, "PUT", "/api/profile", headers=sent, json={"bio": bio})


def prefer(client: httpx.Client, session: Session, language: str) -> Exchange:
    """The owner chooses a language."""
    path = "/api/profile/preferences"
    return exchange(client, "PUT", path, headers=session.headers, json={"language": language})


def set_config(
    client: httpx.Client,
    admin: Session,
    key: str,
    value: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> Exchange:
    """An administrator gives a configuration key a value."""
    sent = {**admin.headers, **(headers or {})}
    return exchange(client, "PUT", f"/api/admin/config/{key}", headers=sent, json={"value": value})


def rotate_keys(client: httpx.Client, admin: Session, kind: str) -> str:
    """An administrator rotates the keys of ``jwt`` or ``refresh`` tokens; returns the new kid.

    Raises:
        CouldNotObserve: it was not answered as contracted.
    """
    seen = exchange(
        client,
        "POST",
        "/api/auth/admin/secrets/rotate",
        headers=admin.headers,
        json={"type": kind, "reason": "trial"},
    )
    body = seen["json"] if isinstance(seen["json"], dict) else {}
    kid = ((body.get("data") or {}).get("rotated") or {}).get(kind, {}).get("kid")
    if seen.status != 200 or not isinstance(kid, str):
        raise CouldNotObserve(f"rotate keys: seen {seen['error'] or seen.status}, expected a kid")
    return kid
