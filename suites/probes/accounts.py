"""People of the target as a probe meets them: registered, logged in, refreshed, logged out."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange
from harness.trial import Trial

PASSWORD = "Trial-Passw0rd!"


@dataclass(frozen=True)
class Session:
    """One open session of one person.

    Attributes:
        user: the user object of the answer (id, email, name, role …).
        access: access token. refresh: refresh token.
    """

    user: Mapping[str, Any]
    access: str
    refresh: str

    @property
    def user_id(self) -> str:
        """The person's id."""
        return str(self.user["id"])

    @property
    def email(self) -> str:
        """The person's address."""
        return str(self.user["email"])

    @property
    def headers(self) -> dict[str, str]:
        """The header that shows the access token."""
        return bearer(self.access)

    @property
    def claims(self) -> dict[str, Any]:
        """The access token's claims, not verified."""
        return claims_of(self.access)


def bearer(token: str) -> dict[str, str]:
    """The Authorization header for a token."""
    return {"Authorization": f"Bearer {token}"}


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified."""
    return _segment(token, 1)


def header_of(token: str) -> dict[str, Any]:
    """The header of a JWT, not verified."""
    return _segment(token, 0)


def _segment(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


def register(client: httpx.Client, prefix: str) -> Session:
    """Register a new customer whose address begins with the run's prefix.

    Raises:
        CouldNotObserve: the target did not answer 201 with a session.
    """
    name = f"{prefix}-{secrets.token_hex(5)}"
    reply = exchange(
        client,
        "POST",
        "/api/auth/register",
        json={"email": f"{name}@trial.invalid", "password": PASSWORD, "name": name},
        body_limit=65536,
    )
    return session_of(reply, 201, "register")


def login(
    client: httpx.Client, email: str, password: str = PASSWORD, *, device: str = ""
) -> Session:
    """Log a person in, on a device if one is named.

    Raises:
        CouldNotObserve: the target did not answer 200 with a session.
    """
    reply = exchange(
        client,
        "POST",
        "/api/auth/login",
        headers={"X-Device-ID": device} if device else None,
        json={"email": email, "password": password},
    )
    return session_of(reply, 200, "login")


def login_as(trial: Trial, client: httpx.Client, who: str) -> Session:
    """Log in one of the target file's accounts: admin, customer or vendor.

    Raises:
        CouldNotObserve: the file has no such account, or it cannot log in.
    """
    account = trial.target.accounts.get(who)
    if account is None:
        raise CouldNotObserve(f"the target file has no [accounts.{who}]")
    return login(client, account.email, account.password)


def refresh(client: httpx.Client, token: str) -> Exchange:
    """Present a refresh token."""
    return exchange(client, "POST", "/api/auth/refresh", json={"refreshToken": token})


def logout(client: httpx.Client, session: Session) -> Exchange:
    """End the session of an access token."""
    return exchange(client, "POST", "/api/auth/logout", headers=session.headers, json={})


def me(client: httpx.Client, token: str) -> Exchange:
    """Ask who a token belongs to: the plainest protected read, past the cache."""
    headers = {**bearer(token), "Cache-Control": "no-cache"}
    return exchange(client, "GET", "/api/auth/me", headers=headers)


def session_of(reply: Exchange, status: int, act: str) -> Session:
    """The session a reply holds.

    Raises:
        CouldNotObserve: it holds none; the text says what was seen.
    """
    data = (reply["json"] or {}).get("data") if isinstance(reply["json"], dict) else None
    if reply.status != status or not isinstance(data, dict) or "accessToken" not in data:
        seen = reply["error"] or f"{reply.status} {reply.code}".strip()
        raise CouldNotObserve(f"{act}: seen {seen}, expected {status} with a session")
    return Session(data["user"], data["accessToken"], data.get("refreshToken", ""))
