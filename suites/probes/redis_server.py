"""Whether the cache server itself answers, asked past the target; speaks as much RESP as it takes.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import socket
from urllib.parse import unquote, urlsplit

from harness.trial import Trial

_SECONDS = 1.0


def reached(trial: Trial) -> str:
    """``answers`` or ``nobody``; ``not granted`` without an [access.redis] that can be asked."""
    access = trial.target.access.redis
    place = urlsplit(access.url) if access else None
    if place is None or place.scheme != "redis" or not place.hostname:
        return "not granted"
    words: list[tuple[str, ...]] = [("PING",)]
    if place.password:
        user = (unquote(place.username),) if place.username else ()
        words.insert(0, ("AUTH", *user, unquote(place.password)))
    try:
        with socket.create_connection((place.hostname, place.port or 6379), _SECONDS) as server:
            server.sendall(b"".join(_command(*each) for each in words))
            told = b""
            while b"PONG" not in told:
                more = server.recv(4096)
                if not more:
                    return "nobody"
                told += more
    except OSError:
        return "nobody"
    return "answers"


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts += [f"${len(raw)}\r\n".encode(), raw, b"\r\n"]
    return b"".join(parts)
