"""No target gets a PASS it did not earn: dead, or one answer for everything."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.verdict import Verdict
from loadtests.engine.throwaway_certificate import write_certificate

ROOT = Path(__file__).parents[2]
UNUSED_PORT = 9  # discard: nobody listens on it


def _handler(status: int) -> type[BaseHTTPRequestHandler]:
    """Answers every request with one status and a JSON body that means nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b'{"success": true, "data": {}}'
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815 (names of the protocol)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken handshakes of TLS scanners are expected."""


@contextmanager
def _answering(status: int, folder: Path) -> Iterator[dict[str, str]]:
    """The [http] table of a server that answers everything with one status."""
    certificate, key = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    servers = [_Server(("127.0.0.1", 0), _handler(status)) for _ in range(2)]
    plain, tls = servers
    tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield {
            "origin": f"https://localhost:{tls.server_address[1]}",
            "plain": f"http://localhost:{plain.server_address[1]}",
            "websocket": f"wss://localhost:{tls.server_address[1]}/ws",
            "service": f"http://localhost:{plain.server_address[1]}",
            "ca": str(certificate),
        }
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


@contextmanager
def _dead(folder: Path) -> Iterator[dict[str, str]]:
    """The [http] table of a host on which nothing listens."""
    certificate, _ = write_certificate(folder)
    yield {
        "origin": f"https://localhost:{UNUSED_PORT}",
        "plain": f"http://localhost:{UNUSED_PORT}",
        "websocket": f"wss://localhost:{UNUSED_PORT}/ws",
        "service": f"http://localhost:{UNUSED_PORT}",
        "ca": str(certificate),
    }


def _target_text(http: dict[str, str]) -> str:
    """A target file that grants every access, so that no criterion can hide behind a lack of it."""
    tables = [
        "schema = 1",
        "[http]",
        *(f'{key} = "{http[key]}"' for key in ("origin", "plain", "websocket", "ca")),
        "[addresses]",
        'exempt = ["127.0.0.2", "127.0.2.0/24"]',
        'limited = "127.0.3.0/24"',
        "[settings]",
        "upstream_timeout_ms = 500",
        "[access.amqp]",
        f'url = "amqp://u:p@localhost:{UNUSED_PORT}/"',
        f'management = "{http["service"]}"',
        'user = "u"',
        'password = "p"',
        "[access.redis]",
        f'url = "redis://localhost:{UNUSED_PORT}"',
        "[access.keys]",
        'access = { kid = "k", secret = "0123456789abcdef0123456789abcdef" }',
        'refresh = { kid = "r", secret = "0123456789abcdef0123456789abcdef" }',
        "[access.internal]",
        'token = "t"',
        "[access.logs]",
        f'folder = "{Path(http["ca"]).parent}"',
        "[commands]",
        'dlq = "false"',
    ]
    for who in ("admin", "customer", "vendor"):
        tables += [f"[accounts.{who}]", f'email = "{who}@x.invalid"', 'password = "x"']
    for service in ("auth", "payments", "admin", "profile"):
        database = f"postgresql://u:p@localhost:{UNUSED_PORT}/{service}_db"
        tables += [f"[access.db.{service}]", f'url = "{database}"', f'service_url = "{database}"']
    for service in ("gateway", "auth", "payments", "admin", "profile"):
        tables += [f"[services.{service}]", f'url = "{http["service"]}"']
    for part in (
        *("edge", "gateway", "auth", "payments", "admin", "profile", "rabbitmq", "redis"),
        *("postgres-auth", "postgres-payments", "postgres-admin", "postgres-profile"),
    ):
        tables.append(f"[control.{part}]")
        tables += [f'{action} = "true"' for action in ("stop", "start", "pause", "resume")]
    return "\n".join(tables)


@pytest.mark.parametrize("answer", ["dead", 404, 200, 429, 500])
def test_a_worthless_target_earns_no_pass(answer: str | int, tmp_path: Path) -> None:
    """Exit 1 or 8, no PASS, nothing excused as not applicable, and each verdict has a reason."""
    place = _dead(tmp_path) if answer == "dead" else _answering(int(answer), tmp_path)
    folder = tmp_path / "run"
    with place as http:
        target = tmp_path / "target.toml"
        target.write_text(_target_text(http))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "suites/", "--target", target, "--run-folder", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
        )

    document = json.loads((folder / "verdicts.json").read_text())
    unearned = {
        entry["criterion"]: (entry["verdict"], entry["reason"])
        for entry in document["verdicts"]
        if entry["verdict"] not in (Verdict.FAIL, Verdict.INCONCLUSIVE) or not entry["reason"]
    }
    broken = [e["criterion"] for e in document["verdicts"] if " broke " in e["reason"]]
    assert unearned == {}, done.stdout
    assert broken == [], "a probe or check crashed instead of saying what it saw"
    assert done.returncode in (1, 8), done.stdout + done.stderr
    assert document["exit"] == done.returncode
