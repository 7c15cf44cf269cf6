"""R1.36: nothing that stays contains a token."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import websockets.sync.client as websockets
from psycopg import sql

from system.conftest import RunningStack
from system.tests.desks import SERVICES, away, until
from system.tests.doors import PASSWORD, Caller, newcomer, refusal

pytestmark = pytest.mark.platform


def stored(stack: RunningStack) -> Iterator[str]:
    """Every row of every table of the four databases, outboxes included, as text."""
    for service in SERVICES:
        with psycopg.connect(stack.database(service)) as db:
            tables = db.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            ).fetchall()
            for (table,) in tables:
                rows = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))
                for (row,) in db.execute(rows):
                    yield row


def cached(stack: RunningStack) -> Iterator[str]:
    """Every key of Redis with its value."""
    with redis.Redis.from_url(
        stack.target["access"]["redis"]["url"], decode_responses=True
    ) as client:
        for key in client.scan_iter(count=1000):
            yield key
            kind = client.type(key)
            if kind == "string":
                yield str(client.get(key))
            elif kind == "hash":
                yield str(client.hgetall(key))
            elif kind == "set":
                yield str(client.smembers(key))
            elif kind == "zset":
                yield str(client.zrange(key, 0, -1))
            else:
                assert kind in ("list", "none", "stream"), kind


def logged(stack: RunningStack) -> Iterator[str]:
    """Every file that a part has written its log to."""
    for file in Path(stack.target["access"]["logs"]["folder"]).rglob("*"):
        if file.is_file():
            yield file.read_text(encoding="utf-8", errors="replace")


def test_r1_36_no_token_is_kept_anywhere(well: RunningStack) -> None:
    """Refresh tokens as hashes in auth_db; in no table, cache, log or event a token.

    Whatever was done with it: used, spent, used again, refused, sent where it does not belong.
    """
    mark = f"tokens-{uuid.uuid4()}"
    account = newcomer(well)
    tokens = [account.session["accessToken"], account.session["refreshToken"]]

    def use(token: str) -> list[str]:
        answer = account.ask("edge", "POST", "/api/auth/refresh", json={"refreshToken": token})
        if not answer.is_success:
            return []
        return [answer.json()["data"][name] for name in ("accessToken", "refreshToken")]

    account.ask("edge", "GET", "/api/auth/me", headers={"X-Correlation-ID": mark})
    newer = use(tokens[1])
    assert use(tokens[1]) == []
    tokens += newer
    other = Caller(well, {"email": account.email, "password": PASSWORD})
    access, refresh = (other.session[name] for name in ("accessToken", "refreshToken"))
    tokens += [access, refresh]
    with websockets.connect(
        well.origin.replace("https", "wss") + "/ws",
        ssl=well.trust,
        subprotocols=["bearer", access],  # type: ignore[list-item]  # a token is one, by R4.1
        source_address=(well.exempt, 0),
    ) as socket:
        assert "connected" in str(socket.recv(timeout=10))
    spoilt = access[:-4] + "AAAA"
    tokens.append(spoilt)
    asked = [
        other.ask("edge", "GET", f"/api/payments?token={access}&access_token={access}"),
        other.ask("edge", "GET", f"/api/auth/nothing/{refresh}"),
        other.ask("edge", "GET", f"/ws?token={access}"),
        other.ask("edge", "GET", "/api/payments", headers={"Authorization": f"Bearer {spoilt}"}),
        other.ask("edge", "POST", "/api/auth/refresh", content=refresh),
        other.ask("edge", "POST", "/graphql", json={"query": f'{{payment(id:"{access}"){{id}}}}'}),
        other.ask("edge", "GET", "/api/payments", headers={"User-Agent": access}),
        other.ask("edge", "GET", "/api/payments", headers={"X-Correlation-ID": access}),
        other.ask("edge", "GET", "/api/payments", headers={"Referer": f"https://a/?t={access}"}),
        other.ask("gateway", "GET", f"/api/payments?token={access}"),
        other.ask("service", "GET", f"/api/payments?token={access}"),
    ]
    assert [answer.status_code for answer in asked if answer.status_code >= 500] == []
    with away(well, "profile"):
        for door in ("edge", "gateway"):
            assert other.ask(door, "GET", f"/api/profile?token={access}").status_code == 502
    with away(well, "gateway"):
        assert other.ask("edge", "GET", f"/api/profile?token={access}").status_code in (502, 503)
    well.until_ready()
    other.good("POST", "/api/auth/logout", {"refreshToken": refresh})
    assert refusal(other.ask("edge", "GET", "/api/auth/me"))[0] == 401
    for caller in (account, other):
        caller.close()

    # What is looked for elsewhere is found here by the same way of looking.
    digest = hashlib.sha256(tokens[1].encode()).hexdigest()
    assert any(digest in row for row in stored(well))
    assert any(other.id in entry for entry in cached(well))
    until(lambda: any(mark in text for text in logged(well)), 10)
    signatures = {token.rpartition(".")[2] for token in tokens}
    assert len(signatures) == len(tokens) == 7
    for place in (stored, cached, logged):
        for text in place(well):
            found = [signature for signature in signatures if signature in text]
            assert not found, f"{place.__name__}: {_around(text, found[0])}"


def _around(text: str, found: str) -> str:
    where = text.index(found)
    return text[max(0, where - 400) : where]
