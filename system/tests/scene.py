"""People who act through the gateway, and what is heard of each of their acts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk, until
from system.tests.listening import Ear, Heard

AGENT = "event-probe/1"
PASSWORD = "Newcomer-Pass-123!"
NOW, LATER = "<now>", "<in 15 minutes>"
Json = dict[str, Any]


@dataclass
class Person:
    """Somebody with a session.

    Attributes:
        user: as auth shows it; `version` counts its changes.
        session: the answer of registration or login.
        sid: of that session.
    """

    session: Json
    version: int = 1
    user: Json = field(init=False)
    sid: str = field(init=False)

    def __post_init__(self) -> None:
        self.user = self.session["user"]
        claims = self.session["accessToken"].split(".")[1]
        self.sid = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sid"]

    @property
    def id(self) -> str:
        return str(self.user["id"])

    @property
    def email(self) -> str:
        return str(self.user["email"])

    def snapshot(self, **changes: Any) -> Json:
        """R3.22, after a change."""
        return {
            "userId": self.id,
            "email": self.email,
            "name": self.user["name"],
            "role": self.user["role"],
            "status": "active",
            "emailVerified": False,
            "userVersion": self.version,
            **changes,
        }


@dataclass
class Told:
    """What an act has to cause.

    Attributes:
        actor: `metadata.actorId`.
        events: type and data of each; `NOW` and `LATER` stand for moments.
        psp: whether the payment provider acted.
    """

    actor: str | None
    events: list[tuple[str, Json]]
    psp: bool = False


class Scene:
    """Acts through the gateway; `key` is the correlation id of what is asked next."""

    def __init__(self, stack: RunningStack, desk: Desk, ear: Ear) -> None:
        self.stack = stack
        self.ear = ear
        self.key = ""
        self.secrets: set[str] = {PASSWORD}
        self._http = desk.http
        self._admin: Person | None = None

    def send(
        self, method: str, path: str, body: Any = None, by: Person | None = None, **more: str
    ) -> httpx.Response:
        headers = {"User-Agent": AGENT, "X-Correlation-ID": self.key}
        if by is not None:
            headers["Authorization"] = f"Bearer {by.session['accessToken']}"
        headers.update({name.replace("_", "-"): value for name, value in more.items()})
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
            return self._http.request(method, path, content=body, headers=headers)
        return self._http.request(method, path, json=body, headers=headers)

    def good(
        self, method: str, path: str, body: Any = None, by: Person | None = None, **more: str
    ) -> Any:
        """`data` of a success."""
        answer = self.send(method, path, body, by, **more)
        assert answer.is_success, answer.text
        return answer.json()["data"] if answer.content else None

    def graphql(self, by: Person, document: str, **variables: Any) -> Any:
        """`data` of a document."""
        body = {"query": document, "variables": variables}
        answer = self.send("POST", "/graphql", body, by)
        assert "errors" not in answer.json(), answer.text
        return answer.json()["data"]

    def act(self) -> None:
        """From here on it is the act itself."""
        self.key = f"act-{uuid.uuid4()}"

    def register(self) -> Person:
        body = {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "New"}
        return self._keep(self.good("POST", "/api/auth/register", body))

    def login(self, email: str, password: str = PASSWORD, **headers: str) -> Person:
        body = {"email": email, "password": password}
        return self._keep(self.good("POST", "/api/auth/login", body, None, **headers))

    @property
    def admin(self) -> Person:
        """The seeded administrator."""
        if self._admin is None:
            account = self.stack.account("admin")
            self._admin = self.login(account["email"], account["password"])
        return self._admin

    def _keep(self, session: Json) -> Person:
        self.secrets |= {session["accessToken"], session["refreshToken"]}
        return Person(session)

    def seen(self, person: Person, **more: Any) -> Json:
        """What a login or logout tells."""
        return {
            "userId": person.id,
            "email": person.email,
            "sessionId": person.sid,
            "ipAddress": self.stack.exempt,
            **more,
        }

    def tried(self, email: str, user_id: str | None, **more: Any) -> Json:
        """What a failed login tells."""
        return {"userId": user_id, "email": email, "ipAddress": self.stack.exempt, **more}

    def payment(self, payer: Person, payee: Person) -> Json:
        body = {
            "type": "instant",
            "amount": "100.5",
            "currency": "USD",
            "description": "x",
            "recipientId": payee.id,
        }
        made: Json = self.good("POST", "/api/payments", body, payer)
        return made

    def provider(self, **said: Any) -> Any:
        """What the payment provider says, signed (R1.121)."""
        body, now = json.dumps(said).encode(), str(int(time.time()))
        secret = self.stack.target["access"]["webhooks"]["secret"].encode()
        digest = hmac.new(secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        return self.good(
            "POST",
            "/api/webhooks/payments",
            body,
            X_Webhook_Timestamp=now,
            X_Webhook_Signature=f"sha256={digest}",
        )


@dataclass
class Done:
    """An act, what it has to cause and what was heard of it."""

    told: Told
    key: str
    heard: list[Heard]


class Theatre:
    """Plays each act once and keeps what came of it."""

    def __init__(self, scene: Scene, desk: Desk) -> None:
        self.scene = scene
        self.desk = desk
        self._done: dict[str, Done] = {}

    def done(self, act: Callable[[Scene], Told]) -> Done:
        if act.__name__ not in self._done:
            self.scene.key = f"before-{uuid.uuid4()}"
            told = act(self.scene)
            # What was answered is committed; what is published is in the ear's queue.
            until(lambda: all(map(self.desk.has_published, SERVICES)), 10)
            key = self.scene.key
            heard = [heard for heard in self.scene.ear.all() if heard.correlation_id == key]
            self._done[act.__name__] = Done(told, key, heard)
        return self._done[act.__name__]
