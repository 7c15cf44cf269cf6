"""Every refusal the system gives: one exception, and one function for each agreed code (R1.18).

Free of any framework: services raise these behind Litestar, the gateway behind aiohttp.

    ApiError
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# R1.18: the closed set, with the statuses each code may travel with.
CODES: Final[Mapping[int, frozenset[str]]] = {
    400: frozenset(
        {
            "VALIDATION_ERROR",
            "INVALID_JSON",
            "BAD_REQUEST",
            "INVALID_STATUS",
            "INVALID_RECIPIENT",
            "SELF_PAYMENT_NOT_ALLOWED",
            "DEVICE_ID_REQUIRED",
        }
    ),
    401: frozenset(
        {
            "UNAUTHORIZED",
            "TOKEN_INVALID",
            "TOKEN_EXPIRED",
            "TOKEN_REVOKED",
            "TOKEN_REUSE_DETECTED",
            "INVALID_CREDENTIALS",
            "INVALID_PASSWORD",
            "WEBHOOK_SIGNATURE_INVALID",
        }
    ),
    403: frozenset(
        {
            "FORBIDDEN",
            "ACCOUNT_SUSPENDED",
            "ORIGIN_NOT_ALLOWED",
            "CANNOT_DELETE_LAST_ADMIN",
            "CANNOT_DEMOTE_LAST_ADMIN",
            "CANNOT_SUSPEND_LAST_ADMIN",
            "CANNOT_MODIFY_SELF",
        }
    ),
    404: frozenset(
        {
            "NOT_FOUND",
            "USER_NOT_FOUND",
            "PAYMENT_NOT_FOUND",
            "RECIPIENT_NOT_FOUND",
            "DEVICE_NOT_FOUND",
            "SESSION_NOT_FOUND",
            "CONFIG_NOT_FOUND",
        }
    ),
    409: frozenset(
        {
            "EMAIL_EXISTS",
            "EMAIL_ALREADY_EXISTS",
            "INVALID_STATUS_TRANSITION",
            "IDEMPOTENCY_KEY_REUSED",
        }
    ),
    413: frozenset({"PAYLOAD_TOO_LARGE"}),
    429: frozenset(
        {"RATE_LIMIT_EXCEEDED", "TOO_MANY_ATTEMPTS", "ACCOUNT_LOCKED", "TOO_MANY_CONNECTIONS"}
    ),
    500: frozenset({"INTERNAL_ERROR"}),
    502: frozenset({"BAD_GATEWAY"}),
    503: frozenset({"SERVICE_UNAVAILABLE", "HEALTH_CHECK_FAILED"}),
    504: frozenset({"GATEWAY_TIMEOUT"}),
}


class ApiError(Exception):
    """A refusal as the caller will see it.

    Attributes:
        status: HTTP status.
        code: one of `CODES[status]` (R1.18).
        message: one sentence for people; never names an address, a query or a secret (R1.6).
        details: any JSON value; left out of the answer when None.
        headers: extra response headers, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the error envelope of R1.2."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return {"success": False, "error": error}


@dataclass(frozen=True, slots=True)
class Issue:
    """One broken rule of an input (R1.16).

    Attributes:
        path: where, from the outside in; empty for the input as a whole.
        code: invalid_type, invalid_string, invalid_enum_value, too_small, too_big or custom.
        message: what is expected, for people.
        extra: further keys of the issue, such as minimum.
    """

    path: tuple[str | int, ...]
    code: str
    message: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def below(self, *path: str | int) -> Issue:
        """Return the same issue, seen from further outside."""
        return Issue((*path, *self.path), self.code, self.message, self.extra)

    def as_json(self) -> dict[str, Any]:
        """Return the issue as an entry of `details`."""
        return {
            **self.extra,
            "code": self.code,
            "message": self.message,
            "path": list(self.path),
        }


# 400


def validation(issues: Iterable[Issue | Mapping[str, Any]]) -> ApiError:
    """R1.8, R1.16: input broke rules; name all of them."""
    details = [
        issue.as_json() if isinstance(issue, Issue) else {"path": [], **issue} for issue in issues
    ]
    return ApiError(400, "VALIDATION_ERROR", "Invalid request data", details)


def invalid_json() -> ApiError:
    """R1.9: the body is declared JSON and is none, or is no object."""
    return ApiError(400, "INVALID_JSON", "Request body is not a valid JSON object")


def bad_request(message: str = "Bad request") -> ApiError:
    """R1.18: the request cannot be understood."""
    return ApiError(400, "BAD_REQUEST", message)


# 401


def unauthorized(message: str = "Authentication required") -> ApiError:
    """R1.28: no bearer token was presented."""
    return ApiError(401, "UNAUTHORIZED", message)


def token_invalid() -> ApiError:
    """R1.28: malformed, bad signature, wrong alg, kid, iss, aud, type or claim."""
    return ApiError(401, "TOKEN_INVALID", "Token is invalid")


def token_expired() -> ApiError:
    """R1.28: a good signature past its time."""
    return ApiError(401, "TOKEN_EXPIRED", "Token has expired")


def token_revoked() -> ApiError:
    """R1.28: the session is revoked or unknown, or its user is gone."""
    return ApiError(401, "TOKEN_REVOKED", "Token has been revoked")


def token_reuse_detected() -> ApiError:
    """R1.35: a spent refresh token was presented."""
    return ApiError(401, "TOKEN_REUSE_DETECTED", "Refresh token has already been used")


def invalid_credentials() -> ApiError:
    """R1.60, R1.68: unknown e-mail and wrong password alike."""
    return ApiError(401, "INVALID_CREDENTIALS", "Invalid email or password")


# 403


def forbidden(message: str = "You do not have permission to perform this action") -> ApiError:
    """R1.28: the role or the ownership is not sufficient."""
    return ApiError(403, "FORBIDDEN", message)


def account_suspended() -> ApiError:
    """R1.60: right password, suspended account."""
    return ApiError(403, "ACCOUNT_SUSPENDED", "Account is suspended")


def origin_not_allowed() -> ApiError:
    """R1.72: a cookie came from an origin that is not on the list."""
    return ApiError(403, "ORIGIN_NOT_ALLOWED", "Origin is not allowed")


# 404, 409


def not_found(method: str, path: str) -> ApiError:
    """R1.11: no such route or method.

    Args:
        method: as received.
        path: as received, without the query.
    """
    return ApiError(404, "NOT_FOUND", f"Route {method} {path} not found")


def missing(code: str, message: str) -> ApiError:
    """R1.18: the thing asked for does not exist; `code` is one of the 404 codes."""
    return ApiError(404, code, message)


def conflict(code: str, message: str, details: Any = None) -> ApiError:
    """R1.18: the request contradicts the present state; `code` is one of the 409 codes."""
    return ApiError(409, code, message, details)


# 413, 429


def payload_too_large(limit: int) -> ApiError:
    """R1.10: the body is longer than `limit` bytes."""
    return ApiError(413, "PAYLOAD_TOO_LARGE", f"Request body is larger than {limit} bytes")


def rate_limit_exceeded(retry_after: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """R1.42: a limiter refuses; `retry_after` in seconds."""
    return ApiError(
        429,
        "RATE_LIMIT_EXCEEDED",
        "Too many requests, please try again later",
        headers={**(headers or {}), "Retry-After": str(retry_after)},
    )


# 5xx


def internal_error() -> ApiError:
    """R1.15: anything unexpected; the reason goes to the log, never to the caller."""
    return ApiError(500, "INTERNAL_ERROR", "An unexpected error occurred")


def bad_gateway() -> ApiError:
    """R1.12: the upstream refuses or breaks the connection."""
    return ApiError(502, "BAD_GATEWAY", "Upstream service is not reachable")


def service_unavailable(
    retry_after: int = 1, message: str = "Service temporarily unavailable", details: Any = None
) -> ApiError:
    """R1.14: a dependency the answer needs is down; `retry_after` in seconds."""
    return ApiError(
        503, "SERVICE_UNAVAILABLE", message, details, headers={"Retry-After": str(retry_after)}
    )


def gateway_timeout() -> ApiError:
    """R1.13: the upstream sent no response head in time."""
    return ApiError(504, "GATEWAY_TIMEOUT", "Upstream service did not answer in time")
