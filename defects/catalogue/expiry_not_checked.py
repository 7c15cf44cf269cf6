"""The gateway takes access tokens that have expired."""

from typing import Any

from defects.defect import Defect


def _tokens_live_for_ever() -> None:
    from system.platform.security import tokens

    honest: Any = tokens.Claims

    def claims(**told: Any) -> Any:
        return honest(**{**told, "expires_at": 2**33})

    tokens.Claims = claims  # type: ignore[misc, assignment] # that is the defect


DEFECT = Defect(
    id="expiry-not-checked",
    breaks="expired access tokens open WebSockets and pass the gateway",
    noticed_by={"websocket-auth": r"expired", "token-verification": r"expired"},
    patched=("gateway",),
    patch=_tokens_live_for_ever,
)
