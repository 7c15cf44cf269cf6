"""The command `bin/dlq`: list, inspect, replay and purge dead letters (R3.54, R3.55)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiormq.exceptions import AMQPError

from system.platform.events.dead_letters import DeadLetters, Selection, open_dead_letters
from system.platform.events.topology import SERVICES, service_queue

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2

_DEFAULT_URL: Final = "amqp://admin:admin@localhost:5672"
_PROGRESS_EVERY_S: Final = 1.0

_EPILOG: Final = """\
A dead letter is a message that a service could not take in: its handler failed four times
(failureKind "handler"), or it is no event at all ("malformed"). A usual round:

  bin/dlq list                          what is there, oldest first
  bin/dlq list --queue admin.events.queue --limit 20
  bin/dlq inspect MESSAGE-ID            headers, properties and body of one
  bin/dlq replay MESSAGE-ID             once the cause is mended: back to the queue it failed in
  bin/dlq replay --queue payments.events.queue
  bin/dlq replay --all
  bin/dlq purge --queue profile.events.queue --yes    remove for good

Listing and inspecting change nothing. A replayed message starts again with no attempts; an event
that had its effect meanwhile has none again. --json gives every answer as one JSON document.

environment: RABBITMQ_URL, such as amqp://user:password@host:5672 (default amqp://localhost:5672
with the development account)
exit codes: 0 done, 1 failed, 2 wrong usage
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong, and where to read what is right."""

    def error(self, message: str) -> Any:
        self.exit(WRONG_USAGE, f"{self.prog}: {message}\nTry `bin/dlq --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    # No default, so that --json counts before and after the action.
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="answer with one JSON document",
    )
    made = _Parser(
        prog="dlq",
        parents=[shared],
        description="Look at dead letters, send them back, remove them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    queue = _Parser(add_help=False)
    queue.add_argument(
        "--queue",
        metavar="Q",
        help="only what failed in this queue: "
        + ", ".join(service_queue(service) for service in SERVICES),
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared, queue], help="show them, oldest first")
    listing.add_argument("--limit", metavar="N", type=_positive, help="show at most N")
    inspect = actions.add_parser("inspect", parents=[shared], help="show one completely")
    inspect.add_argument("message_id", metavar="MESSAGE-ID")
    replay = actions.add_parser(
        "replay", parents=[shared, queue], help="send back to the queue they failed in"
    )
    replay.add_argument("message_id", metavar="MESSAGE-ID", nargs="?")
    replay.add_argument("--all", action="store_true", help="all of them")
    purge = actions.add_parser("purge", parents=[shared, queue], help="remove for good")
    purge.add_argument("--yes", action="store_true", help="really do it")
    return made


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run the command; return its exit code (R0.17)."""
    try:
        options = parser().parse_args(arguments, argparse.Namespace(json=False))
        _check(options)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else WRONG_USAGE
    try:
        return asyncio.run(_act(options, environ.get("RABBITMQ_URL") or _DEFAULT_URL))
    except (AMQPError, OSError, TimeoutError, ValueError) as error:
        _say(
            f"dlq: the broker did not serve us: {type(error).__name__}: {error}\n"
            "Is it up, and does RABBITMQ_URL name its address and account?"
        )
        return FAILED


def _check(options: argparse.Namespace) -> None:
    if options.action == "purge" and not options.yes:
        parser().error("purge removes for good; say --yes if that is meant")
    if options.action == "replay":
        given = [options.message_id is not None, options.queue is not None, options.all]
        if not any(given):
            parser().error("replay wants a MESSAGE-ID, --queue Q or --all")
        if options.all and (options.message_id is not None or options.queue is not None):
            parser().error("replay --all takes neither MESSAGE-ID nor --queue")


async def _act(options: argparse.Namespace, url: str) -> int:
    async with open_dead_letters(url) as letters:
        if options.action == "list":
            return await _list(letters, options)
        if options.action == "inspect":
            return await _inspect(letters, options)
        if options.action == "replay":
            return await _replay(letters, options)
        return await _purge(letters, options)


async def _list(letters: DeadLetters, options: argparse.Namespace) -> int:
    found = await letters.read(
        Selection(queue=options.queue), limit=options.limit, progress=_Progress("read")
    )
    if options.json:
        _print_json([letter.summary() for letter in found])
        return DONE
    if not found:
        print("no dead letters" + (f" of {options.queue}" if options.queue else ""))
        return DONE
    rows = [("MESSAGE-ID", "QUEUE", "TYPE", "KIND", "TRIES", "LAST FAILURE", "ERROR")]
    for letter in found:
        shown = letter.summary()
        rows.append(
            (
                shown["messageId"],
                shown["queue"] or "?",
                shown["type"] or "?",
                shown["failureKind"] or "?",
                str(shown["attempts"] if shown["attempts"] is not None else "?"),
                shown["lastFailureAt"] or "?",
                shown["error"][:80],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[6]]).rstrip())
    print(f"{len(found)} dead letter{'s' if len(found) != 1 else ''}")
    return DONE


async def _inspect(letters: DeadLetters, options: argparse.Namespace) -> int:
    found = await letters.read(
        Selection(message_id=options.message_id), progress=_Progress("searched")
    )
    if not found:
        return _unknown(options.message_id)
    shown = [letter.whole() for letter in found]
    if options.json:
        # One event can be dead in several queues; a single one is not wrapped.
        _print_json(shown[0] if len(shown) == 1 else shown)
    else:
        for number, letter in enumerate(shown, 1):
            if len(shown) > 1:
                print(f"--- {number} of {len(shown)}, {letter['queue']}")
            print(json.dumps(letter, indent=2, ensure_ascii=False))
    return DONE


async def _replay(letters: DeadLetters, options: argparse.Namespace) -> int:
    selection = Selection(message_id=options.message_id, queue=options.queue)
    outcome = await letters.replay(selection, progress=_Progress("looked at"))
    if options.message_id is not None and not outcome.replayed and not outcome.failed:
        return _unknown(options.message_id)
    if options.json:
        _print_json(
            {
                "replayed": len(outcome.replayed),
                "messageIds": outcome.replayed,
                "failed": [
                    {"messageId": message_id, "reason": reason}
                    for message_id, reason in outcome.failed
                ],
            }
        )
    else:
        print(f"{len(outcome.replayed)} replayed")
        for message_id, reason in outcome.failed:
            _say(f"{message_id} stays: {reason}")
    return FAILED if outcome.failed else DONE


async def _purge(letters: DeadLetters, options: argparse.Namespace) -> int:
    removed = await letters.purge(Selection(queue=options.queue), progress=_Progress("looked at"))
    if options.json:
        _print_json({"purged": removed})
    else:
        print(f"{removed} removed")
    return DONE


class _Progress:
    """Says on standard error how far a long run is, once a second."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._next = time.monotonic() + _PROGRESS_EVERY_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_EVERY_S
            _say(f"{self._verb} {done} of {total}")


def _unknown(message_id: str) -> int:
    _say(f"dlq: no dead letter has the id {message_id}; `bin/dlq list` shows those there are")
    return FAILED


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"seen {text!r}, expected a number of 1 or more")
    return value


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
