"""The Docker engine over its socket: just enough for acts on containers, with nothing to load.

The SDK takes a quarter of a second to import, which every `control` in the middle of a measurement
would pay; these requests take milliseconds. Starting a platform is testcontainers' business.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from system.stack.errors import StackError

DEFAULT_HOST = "unix:///var/run/docker.sock"
_VERSION = "v1.41"  # Docker 20.10 and newer
_SECONDS = 120.0


class EngineError(StackError):
    """The engine cannot be reached, or refuses a request.

    Attributes:
        status: of its answer; 0 when there was none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)


def host() -> str:
    """Where the engine listens: ``DOCKER_HOST``, or its usual socket."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def reachable() -> bool:
    """True when an engine answers."""
    try:
        return bool(call("GET", "/version", seconds=3.0))
    except EngineError:
        return False


def call(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    accept: tuple[int, ...] = (),
    seconds: float = _SECONDS,
) -> Any:
    """One request; the parsed answer, None when it has no JSON body.

    Args:
        query: values that are not texts are sent as JSON.
        accept: further statuses that are no error, such as 304 for "it is stopped already".

    Raises:
        EngineError: no engine, or an answer of 400 or more.
    """
    status, raw = exchange(method, path, body, query=query, seconds=seconds)
    if status >= 400 and status not in accept:
        try:
            message = str(json.loads(raw)["message"])
        except (ValueError, KeyError, TypeError):
            message = raw[:300].decode("utf-8", "replace")
        raise EngineError(
            f"the Docker engine answers {status} to {method} {path}: {message}", status
        )
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def exchange(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    seconds: float = _SECONDS,
) -> tuple[int, bytes]:
    """One request; status and body as they come.

    Raises:
        EngineError: there is no engine.
    """
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (query or {}).items()}
    target = f"/{_VERSION}{path}" + (f"?{urlencode(texts)}" if texts else "")
    headers = {"Host": "docker"}
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection = _Connection(seconds)
    try:
        connection.request(method, target, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"no Docker engine answers at {host()}: {error}") from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, seconds: float | None) -> None:
        super().__init__("docker", timeout=seconds)
        self._seconds = seconds

    def connect(self) -> None:
        """Over the socket that DOCKER_HOST names."""
        place = urlsplit(host())
        if place.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._seconds)
            self.sock.connect(place.path)
        elif place.scheme == "tcp":
            self.sock = socket.create_connection(
                (place.hostname or "", place.port or 2375), self._seconds
            )
        else:
            raise OSError(f"DOCKER_HOST is {host()!r}, expected unix://… or tcp://…")


# Containers.


def containers(labels: Mapping[str, str], *, running_only: bool = False) -> list[dict[str, Any]]:
    """Containers that have all these labels, as the engine lists them."""
    filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
    found: list[dict[str, Any]] = call(
        "GET", "/containers/json", query={"all": not running_only, "filters": filters}
    )
    return found


def inspect(container: str) -> dict[str, Any]:
    """Everything the engine knows of a container."""
    found: dict[str, Any] = call("GET", f"/containers/{quote(container)}/json")
    return found


def act(container: str, action: str, *, seconds: float = _SECONDS, **query: Any) -> None:
    """start, stop, kill, pause or unpause; nothing happens when it is so already."""
    # 304: it is started, or stopped; 409: a container that does not run cannot be killed.
    accept = (304, 409) if action == "kill" else (304,)
    call(
        "POST",
        f"/containers/{quote(container)}/{action}",
        query=query,
        accept=accept,
        seconds=seconds,
    )


def remove(container: str) -> None:
    """Kill and remove a container and the volumes that only it has; nothing when it is gone."""
    path = f"/containers/{quote(container)}"
    deadline = time.monotonic() + 30.0
    while True:
        try:
            call("DELETE", path, query={"force": True, "v": True}, accept=(404,))
            return
        except EngineError as error:
            # 409: somebody else removes it at this moment
            if error.status != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def create(name: str, body: Mapping[str, Any]) -> str:
    """Create a container; returns its id."""
    return str(call("POST", "/containers/create", body, query={"name": name})["Id"])


def logs(container: str, since: float = 0.0) -> bytes:
    """What a container has written since a moment (seconds since 1970), both streams in order."""
    query = {"stdout": True, "stderr": True, "since": f"{since:.9f}"}
    status, raw = exchange("GET", f"/containers/{quote(container)}/logs", query=query)
    return _unframed(raw) if status == 200 else b""


def follow(container: str, since: float) -> Iterator[bytes]:
    """What a container writes from a moment on, as it comes; ends when the container does.

    Args:
        since: seconds since 1970.

    Raises:
        EngineError: there is no engine.
    """
    query = {"stdout": 1, "stderr": 1, "follow": 1, "since": f"{since:.9f}"}
    connection = _Connection(None)
    try:
        connection.request(
            "GET", f"/{_VERSION}/containers/{quote(container)}/logs?{urlencode(query)}"
        )
        answer = connection.getresponse()
        while answer.status == 200 and len(head := answer.read(8)) == 8:
            yield answer.read(int.from_bytes(head[4:], "big"))
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"no Docker engine answers at {host()}: {error}") from error
    finally:
        connection.close()


def _unframed(raw: bytes) -> bytes:
    """The text of a multiplexed stream: frames of 8 bytes head (last four the length) and text."""
    pieces = []
    place = 0
    while place + 8 <= len(raw):
        length = int.from_bytes(raw[place + 4 : place + 8], "big")
        pieces.append(raw[place + 8 : place + 8 + length])
        place += 8 + length
    return b"".join(pieces)


# Networks and volumes.


def networks(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Networks that have all these labels."""
    filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
    found: list[dict[str, Any]] = call("GET", "/networks", query={"filters": filters})
    return found


def join(network: str, container: str, endpoint: Mapping[str, Any]) -> None:
    """Put a container on a network, with aliases and address as the endpoint says."""
    body = {"Container": container, "EndpointConfig": dict(endpoint)}
    call("POST", f"/networks/{quote(network)}/connect", body)


def remove_networks_and_volumes(labels: Mapping[str, str]) -> None:
    """Remove all networks and volumes that have all these labels."""
    for network in networks(labels):
        call("DELETE", f"/networks/{network['Id']}", accept=(404,))
    filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
    for volume in call("GET", "/volumes", query={"filters": filters})["Volumes"] or []:
        remove_volume(volume["Name"])


def remove_volume(name: str) -> None:
    """Remove a volume; nothing when it is gone."""
    call("DELETE", f"/volumes/{quote(name)}", query={"force": True}, accept=(404,))


def memory_bytes(container: str) -> int:
    """Memory in use by a container, without the page cache; 0 when the engine cannot tell."""
    seen = call(
        "GET",
        f"/containers/{quote(container)}/stats",
        query={"stream": False, "one-shot": True},
    )
    memory = (seen or {}).get("memory_stats") or {}
    cache = (memory.get("stats") or {}).get("total_inactive_file", 0)
    return max(0, int(memory.get("usage", 0)) - int(cache))
