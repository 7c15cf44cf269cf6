"""Writers to every service that never stop, and what became of each of their writes.

A write carries its own key as correlation id. The audit row of its event carries it on (R1.142),
so each write is found again by its key, whichever service took it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from harness.probe import Exchange, exchange
from harness.trial import Trial
from suites.probes import accounts, administration, audit, payments
from suites.probes.accounts import PASSWORD, Session
from suites.probes.dependent_operations import SERVICES, config_key, told

# Service → the audit row that a write of its kind leaves (R3.43).
ACTIONS = {
    "auth": "USER_REGISTERED",
    "payments": "PAYMENT_CREATED",
    "admin": "SYSTEM_CONFIG_CHANGED",
    "profile": "PROFILE_UPDATED",
}
# Seconds between two writes of one writer; a registration costs a password hash.
PAUSES = {"auth": 0.4, "payments": 0.15, "admin": 0.15, "profile": 0.15}
PATIENCE = 15.0  # seconds for one answer: over every time-out that the target may take


@dataclass(frozen=True)
class Write:
    """One write and its answer.

    Attributes:
        key: its correlation id.
        sent, done: seconds since 1970.
        accepted: answered with the status of a success.
        told: what the answer said.
        reply: the answer's document.
    """

    key: str
    sent: float
    done: float
    accepted: bool
    told: Mapping[str, Any]
    reply: Any


class Writers:
    """One writer for each service, from entering the context until `end`.

    Args:
        trial: of the run; clients come from an exempt address.
        admin: sets the configuration key.
        sender, recipient: of the payments; the sender's profile changes.

    Attributes:
        writes: of each service, in their order.
    """

    def __init__(self, trial: Trial, admin: Session, sender: Session, recipient: Session) -> None:
        self._trial, self._admin = trial, admin
        self._sender, self._recipient = sender, recipient
        self._began = datetime.now(UTC)
        self._over = threading.Event()
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self.services = tuple(name for name in SERVICES if self._has(name))
        self.writes: dict[str, list[Write]] = {name: [] for name in self.services}

    def __enter__(self) -> Writers:
        for name in self.services:
            client = self._stack.enter_context(self._trial.client(timeout=PATIENCE))
            thread = threading.Thread(target=self._write_on, args=(name, client), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._stack.close()

    def end(self) -> None:
        """Write no more; returns when the last answers have come."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def accepted_since(self, service: str, moment: float) -> float | None:
        """Seconds from a moment until a write sent after it had been accepted."""
        for write in list(self.writes.get(service, ())):
            if write.sent >= moment and write.accepted:
                return write.done - moment
        return None

    def audited(self, client: httpx.Client, seconds: float) -> dict[str, dict[str, int]]:
        """How often the log has each accepted write, waited for; and refused ones more than once.

        Raises:
            CouldNotObserve: the log is not readable.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = {name: self._counted(client, name) for name in self.services}
            if not any(table["never"] for table in found.values()) or time.monotonic() > deadline:
                return found
            time.sleep(1.0)

    def kept(self, client: httpx.Client) -> dict[str, dict[str, int]]:
        """How many accepted writes the services themselves know, of those that can be asked for.

        Each account and each payment is asked for; of the configuration key and the profile, which
        each write replaces, the last value.

        Raises:
            CouldNotObserve: the payments cannot be read.
        """
        return {name: self._kept(client, name) for name in self.services}

    def sent_again(self, client: httpx.Client, most: int) -> dict[str, int]:
        """Refused payments sent once more with their key; how many now exist not exactly once.

        A commit whose answer was lost may stand; the key keeps it from standing twice (R1.114).
        """
        refused = [write for write in self.writes["payments"] if not write.accepted][:most]
        again = [self._pay(client, write.key) for write in refused]
        there = Counter(p["description"] for p in payments.all_of(client, self._sender))
        return {
            "sent": len(again),
            "accepted": sum(reply.status == 201 for reply in again),
            "not_once": sum(there[write.key] != 1 for write in refused),
        }

    def _has(self, service: str) -> bool:
        return service != "profile" or self._trial.target.absence("profile-api") is None

    def _write_on(self, service: str, client: httpx.Client) -> None:
        act = self._acts()[service]
        while not self._over.is_set():
            key = f"{self._trial.prefix}-kept-{secrets.token_hex(6)}"
            sent = time.time()
            seen = act(client, key)
            accepted = seen.status == (201 if service in ("auth", "payments") else 200)
            reply = seen["json"] if accepted else None
            self.writes[service].append(Write(key, sent, time.time(), accepted, told(seen), reply))
            self._over.wait(PAUSES[service])

    def _acts(self) -> dict[str, Callable[[httpx.Client, str], Exchange]]:
        return {
            "auth": self._register,
            "payments": self._pay,
            "admin": self._configure,
            "profile": self._describe,
        }

    def _register(self, client: httpx.Client, key: str) -> Exchange:
        form = {"email": f"{key}@trial.invalid", "password": PASSWORD, "name": key}
        headers = {"X-Correlation-ID": key}
        return exchange(client, "POST", "/api/auth/register", headers=headers, json=form)

    def _pay(self, client: httpx.Client, key: str) -> Exchange:
        return payments.create(
            client,
            self._sender,
            self._recipient.user_id,
            description=key,
            key=key,
            headers={"X-Correlation-ID": key},
        )

    def _configure(self, client: httpx.Client, key: str) -> Exchange:
        headers = {"X-Correlation-ID": key}
        name = config_key(self._trial)
        return administration.set_config(client, self._admin, name, key, headers=headers)

    def _describe(self, client: httpx.Client, key: str) -> Exchange:
        headers = {"X-Correlation-ID": key}
        return administration.update_profile(client, self._sender, key, headers=headers)

    def _counted(self, client: httpx.Client, service: str) -> dict[str, int]:
        since = self._began.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        rows = audit.rows(client, self._admin, action=ACTIONS[service], startDate=since)
        counts = Counter(row.get("correlationId") for row in rows)
        accepted = [write.key for write in self.writes[service] if write.accepted]
        refused = [write.key for write in self.writes[service] if not write.accepted]
        return {
            "once": sum(counts[key] == 1 for key in accepted),
            "never": sum(counts[key] == 0 for key in accepted),
            "more": sum(counts[key] > 1 for key in (*accepted, *refused)),
            "refused_once": sum(counts[key] == 1 for key in refused),
        }

    def _kept(self, client: httpx.Client, service: str) -> dict[str, int]:
        accepted = [write for write in self.writes[service] if write.accepted]
        if service == "auth":
            tokens = [write.reply["data"]["accessToken"] for write in accepted]
            found = sum(accounts.me(client, token).status == 200 for token in tokens)
            return {"asked": len(accepted), "found": found}
        if service == "payments":
            there = {payment["id"] for payment in payments.all_of(client, self._sender)}
            found = sum(write.reply["data"]["id"] in there for write in accepted)
            return {"asked": len(accepted), "found": found}
        path, member, who = {
            "admin": (f"/api/admin/config/{config_key(self._trial)}", "value", self._admin),
            "profile": ("/api/profile", "bio", self._sender),
        }[service]
        headers = {**who.headers, "Cache-Control": "no-cache"}
        seen = exchange(client, "GET", path, headers=headers)["json"]
        data = seen.get("data") if isinstance(seen, dict) else None
        value = data.get(member) if isinstance(data, dict) else None
        last = accepted[-1:]
        return {"asked": len(last), "found": sum(write.key == value for write in last)}
