"""The arithmetic of capacity, as Markdown.

python -m loadtests.capacity run OBSERVATION     # evidence/api-capacity/observation.json of a run
python -m loadtests.capacity sockets 1000000 --each 5000 --kib 17.6 --process-mib 62 --message-us 35
python -m loadtests.capacity events --a-second 2465 --per-request 0.107
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from loadtests.capacity.conclusion import conclude, steps_of
from loadtests.capacity.machines import for_sockets, rate_of_one_consumer
from loadtests.capacity.step import Gate
from loadtests.capacity.tables import markdown, sockets_table


def main(arguments: list[str] | None = None) -> int:
    """Print what was asked for; 0."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="costs, law and machines of a run")
    run.add_argument("observation", type=Path)
    sockets = commands.add_parser("sockets", help="gateways for a number of open WebSockets")
    sockets.add_argument("count", type=int)
    sockets.add_argument("--each", type=int, action="append", required=True, help="a gateway")
    sockets.add_argument("--kib", type=float, required=True, help="memory of one socket")
    sockets.add_argument(
        "--process-mib", type=float, required=True, help="of a gateway without any"
    )
    sockets.add_argument("--message-us", type=float, required=True, help="CPU of one message")
    events = commands.add_parser("events", help="the rate at which one consumer is at its end")
    events.add_argument("--a-second", type=float, required=True, help="events it takes flat out")
    events.add_argument("--per-request", type=float, required=True, help="events of one request")
    given = parser.parse_args(arguments)
    if given.command == "run":
        evidence = msgspec.json.decode(given.observation.read_bytes())
        gate = msgspec.convert(evidence["gate"], Gate)
        found = conclude(steps_of(evidence), gate, cores=evidence["cores"])
        sys.stdout.write("\n".join(markdown(table) for table in found.tables))
    elif given.command == "sockets":
        ways = [
            for_sockets(
                given.count,
                each=each,
                kib=given.kib,
                process_mib=given.process_mib,
                message_seconds=given.message_us / 1e6,
            )
            for each in given.each
        ]
        sys.stdout.write(markdown(sockets_table(ways)))
    else:
        rate = rate_of_one_consumer(1 / given.a_second, given.per_request)
        sys.stdout.write(f"{rate:.0f} requests/s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
