"""Tries every operation of an OpenAPI document with Schemathesis, in a process of its own.

Schemathesis' pytest plugin and Locust's collide, so it never is in the trial's process. It sends
valid and invalid data and walks from answer to answer; what it saw is read from its event file.
A second module, loaded into its process, keeps it away from people who are not of this run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.probe import CouldNotObserve
from harness.redaction import redact_text
from security import contract_document, contract_events
from security.contract_settings import VARIABLE, Person, Settings

ROOT: Final = Path(__file__).resolve().parents[1]
SEED: Final = 20260117
# R1.11 answers 404 where these two want 405 with Allow.
LEFT_OUT: Final = ("unsupported_method", "allow_header_conformance")
COMMAND: Final = (
    sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml",
    "run", "document.json",
)  # fmt: skip
_LOOK_S: Final = 1.0  # between two looks at how far it is
_SAY_S: Final = 10.0


class People(msgspec.Struct, frozen=True):
    """Who asks: two equals, an administrator, one who is paid and one who logs in."""

    first: Person
    second: Person
    administrator: Person
    visitor: Person
    decoy: Person


class Plan(msgspec.Struct, frozen=True):
    """What is to be tried.

    Attributes:
        document: the OpenAPI document.
        origin, ca, address: the target, and the source address of every request.
        prefix: begins the names that are made.
        people: who asks.
        protected: ids and addresses of others that no write may reach.
        examples: valid and invalid cases of each operation in the fuzzing phase.
        most: cases of each operation in the coverage phase, valid and invalid ones each.
        time_limit: seconds after which it is ended.
        journal: file that names what was made, line by line.
        webhook_secret: signs payment notices; empty: they are refused.
    """

    document: dict[str, Any]
    origin: str
    ca: str
    address: str
    prefix: str
    people: People
    protected: tuple[str, ...]
    examples: int
    most: int
    time_limit: float
    journal: Path
    webhook_secret: str = ""


def observe(plan: Plan, on_progress: Callable[[str], None]) -> dict[str, Any]:
    """Run Schemathesis and return the facts of its run.

    Raises:
        CouldNotObserve: it did not end by itself, or wrote nothing.
    """
    labels = [operation.label for operation in contract_document.operations(plan.document)]
    with _folder() as folder:
        _write(folder / "guard.json", msgspec.json.encode(_settings(plan)))
        _write(folder / "people.json", msgspec.json.encode(_who(plan.people)))
        _write(
            folder / "document.json",
            msgspec.json.encode(contract_document.prepared(plan.document)),
        )
        _write(folder / "schemathesis.toml", _configuration(plan).encode())
        _run(folder, plan, len(labels), on_progress)
        peers = (plan.people.first.id, plan.people.second.id)
        return contract_events.read(folder / "events.ndjson", labels, peers=peers, ca=plan.ca)


def read_journal(path: Path) -> tuple[dict[str, list[str]], dict[str, int]]:
    """What was made (users, payments, configuration keys), and what was led elsewhere how often."""
    made: dict[str, list[str]] = {"user": [], "payment": [], "config": []}
    led = Counter[str]()
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            ((kind, value),) = json.loads(line).items()
            if kind == "led":
                led[value] += 1
            elif value not in made[kind]:
                made[kind].append(value)
    return made, dict(sorted(led.items()))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that only its owner can read (it holds passwords), gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="seatrial-contract-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _settings(plan: Plan) -> Settings:
    people = plan.people
    table = contract_document.policy().operations
    asker = {"user": people.first.id, "admin": people.administrator.id}
    identities = {}
    for operation in contract_document.operations(plan.document):
        row = table.get(contract_document.unnamed(operation.label))
        identities[operation.label] = asker[row.asker if row else "user"]
    known = (people.first, people.second, people.administrator, people.visitor)
    return Settings(
        origin=plan.origin,
        ca=plan.ca,
        address=plan.address,
        prefix=plan.prefix,
        journal=str(plan.journal),
        password=people.visitor.password,
        visitor=people.visitor,
        decoy=people.decoy,
        protected=(*plan.protected, *(text for one in known for text in (one.id, one.email))),
        identities=identities,
        most=plan.most,
        parent=os.getpid(),
        webhook_secret=plan.webhook_secret,
    )


def _who(people: People) -> dict[str, Any]:
    """The identities as a Web Fuzzing Commons document: how each logs in, and shows the token."""
    token = {
        "extractFrom": "body",
        "extractSelector": "/data/accessToken",
        "sendIn": "header",
        "sendName": "Authorization",
        "sendTemplate": "Bearer {token}",
    }
    return {
        "auth": [
            {
                "name": one.id,
                "loginEndpointAuth": {
                    "verb": "POST",
                    "endpoint": "/api/auth/login",
                    "contentType": "application/json",
                    "payloadRaw": json.dumps({"email": one.email, "password": one.password}),
                    "token": token,
                },
            }
            for one in (people.first, people.second, people.administrator)
        ]
    }


def _configuration(plan: Plan) -> str:
    peers = [plan.people.first.id, plan.people.second.id]
    # JSON's strings, numbers and arrays of strings are TOML's as well.
    lines = [
        f"seed = {SEED}",
        'hooks = "security.contract_guard"',
        f"base-url = {json.dumps(plan.origin)}",
        *([f"tls-verify = {json.dumps(plan.ca)}"] if plan.ca else []),
        "continue-on-failure = true",
        "request-timeout = 20",
        "warnings = false",
        "[generation]",
        f"max-examples = {plan.examples}",
        "no-shrink = true",
        'database = "none"',
        "[cache]",
        "enabled = false",
        "[phases.coverage]",
        "unexpected-methods = []",
        "[auth]",
        "auto-signup = false",
        f'wfc = {{ path = "people.json", peers = {json.dumps(peers)} }}',
        "[reports.ndjson]",
        "enabled = true",
        'path = "events.ndjson"',
    ]
    for check in LEFT_OUT:
        lines += [f"[checks.{check}]", "enabled = false"]
    # What is deleted leaves the values that Schemathesis draws from; where these change in the
    # middle, it gives the operation up after a dozen cases.
    lines += [
        "[[operations]]",
        'include-method = "DELETE"',
        "phases.fuzzing.extra-data-sources.responses = false",
    ]
    return "\n".join(lines) + "\n"


def _run(folder: Path, plan: Plan, operations: int, on_progress: Callable[[str], None]) -> None:
    """Run it to its end; whatever is raised here, it and all it started are ended."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        VARIABLE: str(folder / "guard.json"),
        # Tables of characters, which take seconds to make; examples are kept nowhere.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / "build" / "hypothesis"),
    }
    with (
        (folder / "output").open("wb") as output,
        subprocess.Popen(
            COMMAND,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a group of its own, so that all of it can be ended
        ) as process,
    ):
        try:
            _watch(process, folder / "events.ndjson", plan.time_limit, operations, on_progress)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode not in (0, 1) or not (folder / "events.ndjson").exists():
        end = (folder / "output").read_text(encoding="utf-8", errors="replace").strip()[-1500:]
        raise CouldNotObserve(
            f"Schemathesis ended with code {process.returncode}, expected 0 or 1: "
            + redact_text(end)
        )


def _watch(
    process: subprocess.Popen[bytes],
    events: Path,
    time_limit: float,
    operations: int,
    on_progress: Callable[[str], None],
) -> None:
    started = said = time.monotonic()
    seen, phases, phase = 0, Counter[str](), ""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
            return
        now = time.monotonic()
        if now - started > time_limit:
            raise CouldNotObserve(f"Schemathesis did not end within {time_limit:g} s")
        if events.exists():
            with events.open("rb") as file:
                file.seek(seen)
                piece = file.read()
            whole = piece.rfind(b"\n") + 1
            seen += whole
            fresh = contract_events.phases_seen(piece[:whole].splitlines())
            phases += fresh
            current = next(reversed(fresh), phase)
            if current and (current != phase or now - said >= _SAY_S):
                of = f" of {operations}" if current != "stateful" else " scenarios"
                on_progress(f"{current}: {phases[current]}{of}")
                phase, said = current, now
