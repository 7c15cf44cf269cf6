"""Loaded into the Schemathesis process: keeps what it sends away from people it did not create.

Generated requests change passwords, end sessions and delete accounts. On a platform that is used
afterwards they may do so to people and payments of this run only, so each request is looked at
before it is sent and, where it would reach somebody else, led to a person of this run or to nobody.
What was led elsewhere is counted in the journal, so that the evidence can name it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import requests
import schemathesis
import urllib3
from requests.adapters import HTTPAdapter
from schemathesis.wfc.escalation import escalating_provider

from harness import addresses
from security.contract_document import unnamed
from security.contract_settings import VARIABLE, Settings

_UUID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_EMAIL: Final = re.compile(r"\"([^\s\"@]+@[^\s\"@]+)\"")
_CONFIG_KEY: Final = re.compile(r"[a-z][a-z0-9_.-]{0,127}")  # R1.140
_SIGNATURE: Final = re.compile(r"sha256=[0-9a-f]{64}")
_NOTICE_PATH: Final = "/api/webhooks/payments"


class Journal:
    """A line of JSON for each thing that was made, and for each request led elsewhere.

    Args:
        path: the file; every line is on disk before the next request is sent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kind: str, value: str) -> None:
        """Add ``{kind: value}``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: value}) + "\n")


class Guard:
    """Looks at each request before it is sent, and at each answer.

    Args:
        settings: what it is told.
        newcomer: registers somebody and gives the id and the access token.
        visit: logs the visitor in and gives a refresh token.
        bind: binds the session of an Authorization value to a device.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        newcomer: Callable[[], tuple[str, str]],
        visit: Callable[[], str],
        bind: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._journal = Journal(Path(settings.journal))
        self._newcomer = newcomer
        self._visit = visit
        self._bind = bind
        self._own: set[str] = set()
        self._seen: set[str] = {*settings.protected, settings.decoy.id, settings.decoy.email}
        self._people: list[str] = []
        self._payments: list[str] = []
        self._tried: set[str] = {*settings.protected, settings.visitor.email}
        self._taken: set[str] = set()
        self._turns: dict[str, int] = {}
        self._before: dict[str, Callable[[Any], None]] = {
            "POST /api/auth/login": self._log_in,
            "POST /api/auth/register": self._sign_up,
            "POST /api/auth/refresh": self._refresh,
            "POST /api/auth/password": self._change_password,
            "POST /api/auth/admin/secrets/rotate": self._rotate,
            "POST /api/auth/devices/logout-others": self._log_others_out,
            "POST /api/admin/users": self._sign_up,
            "PUT /api/admin/users/{}": self._own_person,
            "DELETE /api/admin/users/{}": self._delete_person,
            "PUT /api/admin/users/{}/role": self._own_person,
            "PATCH /api/admin/users/{}/role": self._own_person,
            "PATCH /api/admin/users/{}/status": self._own_person,
            "PUT /api/admin/config/{}": self._own_key,
            "POST /api/payments": self._own_recipient,
            "PUT /api/payments/{}": self._edit_payment,
            "PATCH /api/payments/{}/status": self._move_payment,
            f"POST {_NOTICE_PATH}": self._notice,
        }

    def before(self, label: str, case: Any) -> None:
        """Lead a request elsewhere where it would reach somebody who is not of this run.

        Args:
            label: ``METHOD /path/{template}``.
            case: Schemathesis' case; changed in place.
        """
        if (act := self._before.get(unnamed(label))) is not None:
            act(case)

    def is_wanted(self, label: str, case: Any) -> bool:
        """False for what the coverage phase would send of an operation beyond its share."""
        if case.meta is None or case.meta.phase.name.value != "coverage":
            return True
        share = f"coverage {label} {_is_positive(case)}"
        self._turns[share] = self._turns.get(share, 0) + 1
        return self._turns[share] <= self._settings.most

    def after(self, label: str, case: Any, status: int, text: str) -> None:
        """Remember what an answer made known, and whose session it ended."""
        created = _created(text) if status == 201 else ""
        if created and label in ("POST /api/auth/register", "POST /api/admin/users"):
            self._own.add(created)
            self._people.append(created)
            self._journal.write("user", created)
        if created and label == "POST /api/payments":
            self._own.add(created)
            self._payments.append(created)
            self._journal.write("payment", created)
        if status < 300 and unnamed(label) in _USES_UP:
            for gone in case.path_parameters.values():
                self._people = [one for one in self._people if one != gone]
                self._payments = [one for one in self._payments if one != gone]
        self._seen.update(_UUID.findall(text))
        self._seen.update(address.lower() for address in _EMAIL.findall(text))
        if unnamed(label) in _ENDS_SESSIONS and 200 <= status < 300:
            forget_token(case)

    def _turn(self, name: str, every: int) -> bool:
        """True at the first and then at each ``every``-th call."""
        turn = self._turns.get(name, 0)
        self._turns[name] = turn + 1
        return turn % every == 0

    def _led(self, what: str) -> None:
        self._journal.write("led", what)

    def _is_foreign(self, value: object) -> bool:
        """An id or address that answers have shown and this run did not make."""
        return isinstance(value, str) and _plain(value) in self._seen - self._own

    def _log_in(self, case: Any) -> None:
        # Two failures of one address ask for a pause (R1.76), five lock it (R1.77).
        body = case.body
        if not isinstance(body, dict) or "@" not in str(body.get("email")):
            return
        if _is_positive(case) and self._turn("login", 3):
            person = self._settings.visitor
            case.body = {**body, "email": person.email, "password": person.password}
            return
        address = str(body["email"]).strip().lower()
        if address in self._tried or self._is_foreign(address):
            self._led("login: an address that was tried before → one that was not")
            case.body = {**body, "email": self._fresh_address()}
        self._tried.add(address)

    def _sign_up(self, case: Any) -> None:
        # The document's example is free only once.
        body = case.body
        if not isinstance(body, dict) or not _is_positive(case):
            return
        address = str(body.get("email")).strip().lower()
        if address in self._taken and self._turn("sign up", 2):
            case.body = {**body, "email": self._fresh_address()}
        self._taken.add(address)

    def _refresh(self, case: Any) -> None:
        if _is_positive(case) and isinstance(case.body, dict) and self._turn("refresh", 3):
            case.body = {**case.body, "refreshToken": self._visit()}

    def _change_password(self, case: Any) -> None:
        if "Authorization" not in case.headers or case.auth_identity is None:
            return
        self._led("password: a user of the run → somebody registered for this request")
        person, token = self._newcomer()
        self._journal.write("user", person)
        case.headers["Authorization"] = f"Bearer {token}"
        if _is_positive(case) and isinstance(case.body, dict) and self._turn("password", 2):
            case.body = {**case.body, "currentPassword": self._settings.password}

    def _rotate(self, case: Any) -> None:
        # The access keys that the target file grants must go on to verify after this run.
        if isinstance(case.body, dict) and case.body.get("type", "both") in ("jwt", "both"):
            self._led("rotation: access keys → refresh keys")
            case.body = {**case.body, "type": "refresh"}

    def _log_others_out(self, case: Any) -> None:
        # Nothing in a document says which device a session is bound to (R1.92), so it is bound now.
        token = case.headers.get("Authorization")
        if token and _is_positive(case) and isinstance(case.body, dict) and self._turn("others", 3):
            device = f"{self._settings.prefix}-device"
            self._bind(str(token), device)
            case.body = {**case.body, "currentDeviceId": device}

    def _own_person(self, case: Any) -> None:
        if not self._lend(case, self._people, "person"):
            self._away(case, "administration: a person who is not of this run → nobody")

    def _delete_person(self, case: Any) -> None:
        if self._lend(case, self._people[1:], "gone"):
            return
        self._away(case, "administration: a person who is not of this run → nobody")
        kept = self._people[:1]
        if not _is_linked(case) and any(value in kept for value in case.path_parameters.values()):
            # The first stays, for the others to work on.
            case.path_parameters = dict.fromkeys(case.path_parameters, str(uuid.uuid4()))

    def _edit_payment(self, case: Any) -> None:
        self._own_recipient(case)
        if not self._lend(case, self._payments, "edit"):
            self._away(case, "payments: a payment that is not of this run → none")

    def _move_payment(self, case: Any) -> None:
        if not self._lend(case, self._payments, "move"):
            self._away(case, "payments: a payment that is not of this run → none")

    def _lend(self, case: Any, own: list[str], name: str) -> bool:
        """Every other time, give a valid request something of this run to work on.

        Links do so by themselves, and are left as they are.
        """
        if _is_linked(case) or not own or not _is_positive(case) or not self._turn(name, 2):
            return False
        case.path_parameters = dict.fromkeys(case.path_parameters, own[-1])
        return True

    def _away(self, case: Any, what: str) -> None:
        for name, value in dict(case.path_parameters).items():
            if self._is_foreign(value):
                self._led(what)
                case.path_parameters = {**case.path_parameters, name: str(uuid.uuid4())}

    def _own_key(self, case: Any) -> None:
        for name, key in dict(case.path_parameters).items():
            if isinstance(key, str) and _CONFIG_KEY.fullmatch(key):
                own = key
                if not key.startswith(f"{self._settings.prefix}."):
                    self._led("configuration: a key → the same under the run's prefix")
                    own = f"{self._settings.prefix}.{key}"[:128]
                self._journal.write("config", own)
                case.path_parameters = {**case.path_parameters, name: own}

    def _own_recipient(self, case: Any) -> None:
        decoy = self._settings.decoy
        body = case.body
        if not isinstance(body, dict):
            return
        for field, own in (("recipientId", decoy.id), ("recipientEmail", decoy.email)):
            if self._is_foreign(body.get(field)):
                self._led("payments: a recipient who is not of this run → one who is")
                body = {**body, field: own}
        case.body = body

    def _notice(self, case: Any) -> None:
        body = case.body
        if not isinstance(body, dict) or not _is_positive(case):
            return
        if self._payments and self._turn("notice", 2):
            case.body = {**body, "paymentId": self._payments.pop()}
        elif self._is_foreign(body.get("paymentId")):
            self._led("webhook: a payment that is not of this run → none")
            case.body = {**body, "paymentId": str(uuid.uuid4())}

    def _fresh_address(self) -> str:
        return f"{self._settings.prefix}-{uuid.uuid4().hex[:12]}@trial.invalid"


_ENDS_SESSIONS: Final = frozenset(
    {
        "POST /api/auth/logout",
        "POST /api/auth/devices/logout-others",
        "DELETE /api/auth/devices/{}",
        "DELETE /api/auth/sessions/{}",
    }
)


_USES_UP: Final = frozenset({"DELETE /api/admin/users/{}", "PATCH /api/payments/{}/status"})


def forget_token(case: Any) -> None:
    """Let the identity that sent a case log in again before its next request."""
    provider = escalating_provider(case.operation.schema)
    if provider is not None and case.auth_identity is not None:
        caching = provider.provider_for(case.auth_identity)
        if hasattr(caching, "invalidate"):
            caching.invalidate()


def settle(provider: Any, identities: Mapping[str, str]) -> None:
    """Fix who asks for each operation, instead of finding out by refusals."""
    if provider is None:
        return
    for label, identity in identities.items():
        provider.restore({label: identity})
        provider.record(label, identity, 200)


def _is_positive(case: Any) -> bool:
    return case.meta is None or bool(case.meta.generation.mode.is_positive)


def _is_linked(case: Any) -> bool:
    return case.meta is not None and case.meta.phase.name.value == "stateful"


def _plain(value: str) -> str:
    """An id or address as answers write it; other spellings of a UUID name the same."""
    text = value.strip().lower()
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text


def _created(text: str) -> str:
    """The id of what a 201 says was made: of the user, or of the thing itself."""
    try:
        data = json.loads(text)["data"]
    except (ValueError, KeyError, TypeError):
        return ""
    made = data.get("user", data) if isinstance(data, dict) else {}
    return str(made.get("id", "")) if isinstance(made, dict) else ""


class _Connection(urllib3.connection.HTTPSConnection):
    """Comes from the source address it is given, bound or by relay."""

    def _new_conn(self) -> socket.socket:
        source = self.source_address[0] if self.source_address else None
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            connection = addresses.connect(self.host, self.port or 443, source, timeout)
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection


class BoundAdapter(HTTPAdapter):
    """Sends from the given source address, and signs payment notices.

    Args:
        settings: the guard's.
    """

    def __init__(self, settings: Settings, **named: Any) -> None:
        self._settings = settings
        super().__init__(**named)

    def init_poolmanager(self, *positional: Any, **named: Any) -> None:
        """The pool of connections from the address."""
        if self._settings.address:
            named["source_address"] = (self._settings.address, 0)
        super().init_poolmanager(*positional, **named)
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}

    def send(self, request: requests.PreparedRequest, *rest: Any, **named: Any) -> Any:
        """Send; a notice whose signature has the right form is given the right one (R1.121)."""
        sign(request, self._settings.webhook_secret)
        return super().send(request, *rest, **named)


def sign(request: requests.PreparedRequest, secret: str, now: float | None = None) -> None:
    """Sign a payment notice that bears a signature of the right form; leave all others alone."""
    headers = request.headers
    well_formed = _SIGNATURE.fullmatch(str(headers.get("X-Webhook-Signature", "")))
    stamped = str(headers.get("X-Webhook-Timestamp", "")).isdigit()
    if not (secret and well_formed and stamped and request.path_url == _NOTICE_PATH):
        return
    stamp = str(int(time.time() if now is None else now))
    body = request.body or b""
    raw = body if isinstance(body, bytes) else str(body).encode()
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + raw, hashlib.sha256)
    headers["X-Webhook-Timestamp"] = stamp
    headers["X-Webhook-Signature"] = f"sha256={mac.hexdigest()}"


class Gate:
    """How the guard itself asks the target: registers newcomers, logs the visitor in.

    Args:
        settings: the guard's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = settings.ca or True

    def newcomer(self) -> tuple[str, str]:
        """Register somebody; gives the id and the access token."""
        name = f"{self._settings.prefix}-{uuid.uuid4().hex[:12]}"
        password = self._settings.password
        body = {"email": f"{name}@trial.invalid", "password": password, "name": name}
        data = self._ask("/api/auth/register", body)
        return str(data["user"]["id"]), str(data["accessToken"])

    def visit(self) -> str:
        """Log the visitor in; gives the refresh token."""
        person = self._settings.visitor
        body = {"email": person.email, "password": person.password}
        return str(self._ask("/api/auth/login", body)["refreshToken"])

    def bind(self, authorization: str, device: str) -> None:
        """Register a device, which binds the calling session to it (R1.89)."""
        self._ask("/api/auth/devices/register", {"deviceId": device}, authorization)

    def _ask(self, path: str, body: Mapping[str, str], authorization: str = "") -> dict[str, Any]:
        headers = {"Authorization": authorization} if authorization else {}
        url = self._settings.origin + path
        answer = self._session.post(url, json=body, headers=headers, timeout=20)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data


def install(settings: Settings) -> None:
    """Bind every session of this process to the address, and hang the guard into Schemathesis."""
    fitted = requests.Session.__init__

    def fit(session: requests.Session) -> None:
        fitted(session)
        session.mount("https://", BoundAdapter(settings))
        session.trust_env = False

    requests.Session.__init__ = fit  # type: ignore[method-assign,assignment] # Schemathesis makes its own
    gate = Gate(settings)
    guard = Guard(settings, newcomer=gate.newcomer, visit=gate.visit, bind=gate.bind)

    @schemathesis.hook
    def after_load_schema(context: Any, schema: Any) -> None:
        settle(escalating_provider(schema), settings.identities)

    @schemathesis.hook
    def filter_case(context: Any, case: Any) -> bool:
        return guard.is_wanted(case.operation.label, case)

    @schemathesis.hook
    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        if os.getppid() != settings.parent:  # whoever started this is gone
            os._exit(1)
        guard.before(case.operation.label, case)

    @schemathesis.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        guard.after(case.operation.label, case, response.status_code, response.text)


if VARIABLE in os.environ:  # only in the process that security.contract_fuzzing starts
    install(msgspec.json.decode(Path(os.environ[VARIABLE]).read_bytes(), type=Settings))
