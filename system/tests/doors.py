"""The doors at which the same request can be made: edge, gateway, and the service that answers."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx

from system.conftest import RunningStack

DOORS = ("edge", "gateway", "service")
PASSWORD = "Newcomer-Pass-123!"
# R1.49: the public prefix, the service and its own prefix.
_PREFIXES = {
    "/api/auth": ("auth", "/auth"),
    "/api/payments": ("payments", "/payments"),
    "/api/webhooks": ("payments", "/webhooks"),
    "/api/admin": ("admin", "/api/admin"),
    "/api/profile": ("profile", "/api/profile"),
}
# R1.18.
CODES = {
    400: {
        *("VALIDATION_ERROR", "INVALID_JSON", "BAD_REQUEST", "INVALID_STATUS"),
        *("INVALID_RECIPIENT", "SELF_PAYMENT_NOT_ALLOWED", "DEVICE_ID_REQUIRED"),
    },
    401: {
        *("UNAUTHORIZED", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"),
        *("TOKEN_REUSE_DETECTED", "INVALID_CREDENTIALS", "INVALID_PASSWORD"),
        "WEBHOOK_SIGNATURE_INVALID",
    },
    403: {
        *("FORBIDDEN", "ACCOUNT_SUSPENDED", "ORIGIN_NOT_ALLOWED", "CANNOT_DELETE_LAST_ADMIN"),
        *("CANNOT_DEMOTE_LAST_ADMIN", "CANNOT_SUSPEND_LAST_ADMIN", "CANNOT_MODIFY_SELF"),
    },
    404: {
        *("NOT_FOUND", "USER_NOT_FOUND", "PAYMENT_NOT_FOUND", "RECIPIENT_NOT_FOUND"),
        *("DEVICE_NOT_FOUND", "SESSION_NOT_FOUND", "CONFIG_NOT_FOUND"),
    },
    409: {
        *("EMAIL_EXISTS", "EMAIL_ALREADY_EXISTS", "INVALID_STATUS_TRANSITION"),
        "IDEMPOTENCY_KEY_REUSED",
    },
    413: {"PAYLOAD_TOO_LARGE"},
    429: {
        *("RATE_LIMIT_EXCEEDED", "TOO_MANY_ATTEMPTS", "ACCOUNT_LOCKED"),
        "TOO_MANY_CONNECTIONS",
    },
    500: {"INTERNAL_ERROR"},
    502: {"BAD_GATEWAY"},
    503: {"SERVICE_UNAVAILABLE", "HEALTH_CHECK_FAILED"},
    504: {"GATEWAY_TIMEOUT"},
}


class Caller:
    """Somebody who asks at any door, from an address without limits.

    Attributes:
        id: of the account, "" for nobody.
        email: of the account, "" for nobody.
        session: what the login answered with.
    """

    def __init__(self, stack: RunningStack, credentials: dict[str, str] | None = None) -> None:
        self._stack = stack
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(verify=stack.trust, local_address=stack.exempt),
            timeout=15,
        )
        self.id = self.email = ""
        self.session: dict[str, Any] = {}
        if credentials is not None:
            answer = self.ask("gateway", "POST", "/api/auth/login", json=credentials)
            assert answer.status_code == 200, answer.text
            self.session = answer.json()["data"]
            self.id, self.email = (self.session["user"][name] for name in ("id", "email"))
            self._http.headers["Authorization"] = f"Bearer {self.session['accessToken']}"

    def ask(self, door: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request for a public path to a door."""
        return self._http.request(method, self._url(door, path), **options)

    def good(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the gateway; give `data` of an answer that must be a success."""
        answer = self.ask("gateway", method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()["data"] if answer.content else None

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def _url(self, door: str, path: str) -> str:
        if door == "edge":
            return self._stack.origin + path
        if door == "gateway":
            return self._stack.services["gateway"] + path
        match = re.match(r"/api/[a-z]+", path)
        assert match is not None, f"no service answers {path}"
        service, prefix = _PREFIXES[match[0]]
        return self._stack.services[service] + prefix + path[match.end() :]


def newcomer(stack: RunningStack) -> Caller:
    """Register somebody new and log in."""
    credentials = {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD}
    nobody = Caller(stack)
    nobody.good("POST", "/api/auth/register", {**credentials, "name": "New"})
    nobody.close()
    return Caller(stack, credentials)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer that is no success."""
    return answer.status_code, answer.json()["error"]["code"]
