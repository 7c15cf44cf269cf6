"""Forged and stale tokens are refused alike by every door that looks at tokens."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, Refusal, exchange, read_refusal
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, graphql, members, tokens, websocket
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="token-verification",
    area="auth",
    statement="Forged and stale tokens MUST be refused by gateway, every service port, GraphQL "
    "and WebSocket.",
    gate="at least 25 tokens that differ from an accepted one in exactly one thing, signed with "
    "the real key; surfaces counted, each member's apart; all controls accepted",
    rules=("R1.22", "R1.23", "R1.24", "R1.25", "R1.28", "R1.29", "R4.3"),
    needs=(Access.KEY, Access.SERVICES),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=180,
)

# Surface → the part it belongs to.
HTTP_SURFACES = {
    "edge": "edge",
    "gateway": "gateway",
    "auth port": "auth",
    "payments port": "payments",
    "admin port": "admin",
    "profile port": "profile-api",
    "graphql": "graphql",
}
SOCKET_SURFACES = {"websocket at the edge": "edge", "websocket at the gateway": "gateway"}
SURFACES = {**HTTP_SURFACES, **SOCKET_SURFACES}
# Surface → the service whose own port it is; every member of it has one.
PORTS = {
    "gateway": "gateway",
    "auth port": "auth",
    "payments port": "payments",
    "admin port": "admin",
    "profile port": "profile",
    "websocket at the gateway": "gateway",
}
INVALID, EXPIRED = "TOKEN_INVALID", "TOKEN_EXPIRED"
WELL_KNOWN_SECRETS = (
    "secret",
    "your-secret-key",
    "change-me",
    "development-only",
    "change-in-production",
)


def test_every_door_refuses_every_bad_token(trial: Trial) -> None:
    """Each surface refuses each token with the contracted code, and takes the good ones."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Show each token at each surface, with controls before and after."""
    with trial.client() as client:
        admin = accounts.login_as(trial, client, "admin")
        customer = accounts.register(client, trial.prefix)
        stale = accounts.register(client, trial.prefix)
        if accounts.logout(client, stale).status != 200:
            raise CouldNotObserve("logout: the session for the revoked token did not end")
    cases = _cases(trial, admin, customer, stale)
    genuine = _resigned(trial, admin)
    absent = {s: why for s, part in SURFACES.items() if (why := trial.target.absence(part))}
    doors = {
        members.nth(surface, number): (surface, url)
        for surface in SURFACES
        if surface not in absent
        for number, url in enumerate(_urls(trial, surface), 1)
    }
    seen: dict[str, Any] = {}
    for place, (name, (surface, url)) in enumerate(doors.items()):
        trial.progress(f"{name}: {len(cases)} tokens")
        address = trial.exempt_address(place) if _exempt(trial) else None
        door = _Door(trial, surface, url, address)
        before = [door.show(admin.access), door.show(genuine)]
        refused = {case: door.show(token, scheme) for case, (token, scheme, _) in cases.items()}
        seen[name] = {"before": before, "cases": refused, "after": [door.show(admin.access)]}
    return {
        "doors": list(doors),
        "surfaces": seen,
        "absent": absent,
        "expected": {name: code for name, (_, _, code) in cases.items()},
    }


def _exempt(trial: Trial) -> bool:
    return bool(trial.target.addresses.exempt)


def _urls(trial: Trial, surface: str) -> tuple[str, ...]:
    """The base URLs where a surface is found; empty ones for what lies at the edge."""
    return trial.members(PORTS[surface]) if surface in PORTS else ("",)


class _Door:
    """One surface of one member; shows it a token and writes down the answer.

    Args:
        url: the member's base URL; empty for what lies at the edge.
        address: source address, or None.
    """

    def __init__(self, trial: Trial, surface: str, url: str, address: str | None) -> None:
        self._trial = trial
        self._surface = surface
        self._url = url
        self._address = address

    def show(self, token: str | None, scheme: str = "Bearer") -> dict[str, Any]:
        if self._surface in SOCKET_SURFACES:
            return self._handshake(token)
        seen = self._request(token, scheme)
        return {k: seen[k] for k in ("status", "json", "error")}

    def _request(self, token: str | None, scheme: str) -> Exchange:
        path = {
            "edge": "/api/auth/me",
            "gateway": "/api/auth/me",
            "auth port": "/auth/me",
            "payments port": "/payments?limit=1",
            "admin port": "/api/admin/audit-logs?limit=1",
            "profile port": "/api/profile",
            "graphql": "/graphql",
        }[self._surface]
        headers = {"Authorization": f"{scheme} {token}"} if token is not None else {}
        with self._trial.client(self._address, base=self._url) as client:
            if self._surface == "graphql":
                return graphql.as_rest(graphql.ask(client, graphql.ME, headers=headers))
            return exchange(client, "GET", path, headers=headers)

    def _handshake(self, token: str | None) -> dict[str, Any]:
        http = self._trial.target.http
        url = http.websocket
        if self._surface == "websocket at the gateway":
            url = self._url.replace("http://", "ws://") + "/ws"
        elif not url:
            raise CouldNotObserve("the target file has no http.websocket")
        seen = websocket.handshake(url, token, ca=http.ca, address=self._address)
        status = 200 if seen["status"] == 101 else seen["status"]
        return {"status": status, "json": seen["json"], "error": seen["error"]}


def _resigned(trial: Trial, session: Session) -> str:
    """The session's own token signed again by us: proves that our signatures are right."""
    return _signed(trial, accounts.header_of(session.access), session.claims)


def _signed(trial: Trial, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    keys = trial.target.access.keys
    if keys is None:
        raise CouldNotObserve("the target file has no [access.keys]")
    return tokens.sign(header, claims, keys.access.secret)


def _cases(
    trial: Trial, admin: Session, customer: Session, stale: Session
) -> dict[str, tuple[str | None, str, str]]:
    """Name → (token, scheme, contracted code)."""
    keys = trial.target.access.keys
    if keys is None:
        raise CouldNotObserve("the target file has no [access.keys]")
    header, claims = accounts.header_of(admin.access), admin.claims
    head, body, signature = admin.access.split(".")
    now = int(time.time())

    def header_with(**changes: Any) -> str:
        return _signed(trial, _changed(header, changes), claims)

    def claims_with(**changes: Any) -> str:
        return _signed(trial, header, _changed(claims, changes))

    other = "A" if signature[0] != "A" else "B"
    made: dict[str, tuple[str | None, str]] = {
        "not a token": ("abc", INVALID),
        "two segments": (f"{head}.{body}", INVALID),
        "blank signature": (f"{head}.{body}.", INVALID),
        "bad signature": (f"{head}.{body}.{other}{signature[1:]}", INVALID),
        "signature of another token": (
            f"{head}.{body}.{customer.access.split('.')[2]}", INVALID,
        ),
        "claims of another token": (
            f"{head}.{customer.access.split('.')[1]}.{signature}", INVALID,
        ),
        "alg none": (tokens.sign({**header, "alg": "none"}, claims, ""), INVALID),
        "alg None": (tokens.sign({**header, "alg": "None"}, claims, ""), INVALID),
        "alg HS384": (header_with(alg="HS384"), INVALID),
        "alg HS512": (header_with(alg="HS512"), INVALID),
        "no kid": (header_with(kid=None), INVALID),
        "unknown kid": (header_with(kid="key-2020-01-01-00000000"), INVALID),
        "other issuer": (claims_with(iss="other-service"), INVALID),
        "other audience": (claims_with(aud="other-system"), INVALID),
        "no issuer": (claims_with(iss=None), INVALID),
        "no audience": (claims_with(aud=None), INVALID),
        "no type": (claims_with(type=None), INVALID),
        "type refresh": (claims_with(type="refresh"), INVALID),
        "no session": (claims_with(sid=None), INVALID),
        "no jti": (claims_with(jti=None), INVALID),
        "no user": (claims_with(userId=None), INVALID),
        "no expiry": (claims_with(exp=None), INVALID),
        "expiry in words": (claims_with(exp="tomorrow"), INVALID),
        "unknown role": (claims_with(role="ROOT"), INVALID),
        "not yet valid": (claims_with(nbf=now + 3600), INVALID),
        "expired": (claims_with(iat=now - 1900, exp=now - 1000), EXPIRED),
        "refresh token": (admin.refresh, INVALID),
        "access claims, refresh key": (
            tokens.sign(header, claims, keys.refresh.secret), INVALID,
        ),
        "unknown session": (claims_with(sid=str(uuid.uuid4())), "TOKEN_REVOKED"),
        "revoked session": (stale.access, "TOKEN_REVOKED"),
        "random key": (tokens.sign(header, claims, secrets.token_hex(32)), INVALID),
    }  # fmt: skip
    for secret in WELL_KNOWN_SECRETS:
        made[f"signed with {secret}"] = (tokens.sign(header, claims, secret), INVALID)
    cases = {name: (token, "Bearer", code) for name, (token, code) in made.items()}
    return {"none": (None, "Bearer", "UNAUTHORIZED"), **cases}


def _changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in {**document, **changes}.items() if v is not None}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every case at every surface is 401 with its code; controls are accepted."""
    tally = Tally([*SURFACES, *evidence.get("doors", ())])
    tally.absences(evidence["absent"])
    expected: Mapping[str, str] = evidence["expected"]
    tally.enough("tokens", len(expected), limits["tokens"])
    shown = 0
    for surface, seen in evidence["surfaces"].items():
        for when in ("before", "after"):
            for answer in seen[when]:
                tally.control(
                    f"{surface}: a good token is accepted {when}",
                    answer["status"] == 200,
                    answer["error"] or answer["status"],
                )
        for name, code in expected.items():
            answer = seen["cases"][name]
            shown += 1
            reading = read_refusal(answer, 401, (code,))
            if reading is Refusal.CANNOT_TELL:
                tally.unproven(surface, f"{name}: {answer['error'] or answer['status']}")
                tally.doubt(f"{surface}, {name}: no refusal and no acceptance was seen")
                continue
            found = answer["json"] if isinstance(answer["json"], dict) else {}
            told = (found.get("error") or {}).get("code", "")
            tally.judge(
                surface,
                reading is Refusal.REFUSED,
                seen=f"{answer['status']} {told}".strip(),
                expected=f"401 {code}",
                place=f"{surface}, token: {name}",
                severity="critical" if answer["status"] == 200 else "major",
            )
    tally.figure("tokens shown", shown)
    return tally.outcome()
