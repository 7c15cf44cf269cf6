"""A reload is over when nobody follows the old configuration any more; what was begun is ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from system.edge.reload import reload, workers
from system.edge.render import render
from system.edge.tests.stand_in import StandIn, received, running_edge, wait_for

_BODY = b'{"half": "and half"}'
_HEAD = (
    b"POST /api/payments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n"
)


def test_new_requests_go_the_new_way_and_old_ones_end_as_they_began(edge_folder: Path) -> None:
    """Also through a worker that takes nothing new; and what cannot be used changes nothing."""
    folder = edge_folder / "reloaded"
    folder.mkdir()
    other = StandIn()
    other.start()
    try:
        with running_edge(folder) as edge:
            master = int(Path(edge.settings.pid_path).read_text())
            configuration = folder / "nginx.conf"
            with edge.connect() as held, edge.connect() as websocket:
                websocket.sendall(
                    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\n\r\n"
                )
                assert b"101" in websocket.recv(4096)
                held.sendall(_HEAD + _BODY[:5])
                wait_for(lambda: len(edge.upstream.heard) == 2, "both to be under way")
                before = workers(master)

                moved = replace(edge.settings, gateways=(f"127.0.0.1:{other.port}",))
                configuration.write_text(render(moved), encoding="utf-8")
                assert reload(master)

                assert workers(master).keys() > before.keys(), "the old one has still to do"
                with edge.client() as client:
                    assert {client.get("/api/x").status_code for _ in range(5)} == {200}
                assert [heard.target for heard in other.heard] == ["/api/x"] * 5
                held.sendall(_BODY[5:])
                assert received(held).startswith(b"HTTP/1.1 200")
                websocket.sendall(b"still here")
                assert websocket.recv(4096) == b"still here"

            configuration.write_text("nonsense;", encoding="utf-8")
            assert not reload(master, seconds=1.0)
            with edge.client() as client:
                assert client.get("/api/x").status_code == 200
    finally:
        other.stop()
    assert not reload(master, seconds=5.0), "nobody is there"
