"""The swarm's process: ``python -m loadtests.swarm PLAN OUT`` holds the sockets of a plan.

It reads one command a line on its standard input and answers each with one line when it is done:
``{"do": "connect"}``, ``{"do": "status"}``, ``{"do": "expect", "expectations": [{"key": …,
"users": […] or null}], "within": 5}``, ``{"do": "ping", "within": 1}``, ``{"do": "finish"}``. At
finish, or when its input ends, it closes the sockets and writes OUT.json.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from loadtests.engine.plan import PlanError
from loadtests.swarm.hive import Expectation, Hive
from loadtests.swarm.plan import SwarmPlan, check


class Command(msgspec.Struct, frozen=True):
    """One line of the input."""

    do: str
    expectations: tuple[Expectation, ...] = ()
    within: float = 5.0


async def _serve(plan: SwarmPlan, out: Path) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hive = Hive(plan)
    try:
        async for line in reader:
            command = msgspec.json.decode(line, type=Command)
            if command.do == "finish":
                break
            _reply(await _carry_out(hive, command))
    finally:
        await hive.finish()
        out.parent.mkdir(parents=True, exist_ok=True)
        document = msgspec.json.encode(hive.evidence())
        out.with_name(out.name + ".json").write_bytes(document)
    _reply(hive.status())


async def _carry_out(hive: Hive, command: Command) -> dict[str, Any]:
    if command.do == "connect":
        await hive.connect()
        gc.collect()
        gc.freeze()  # a thousand sockets' objects need not be looked through again
        return hive.status()
    if command.do == "expect":
        return await hive.expect(command.expectations, command.within)
    if command.do == "ping":
        return await hive.ping(command.within)
    if command.do == "status":
        return hive.status()
    return {"fault": f"unknown command {command.do!r}"}


def _reply(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> int:
    """Hold a plan's sockets until told to finish; 2 when the plan cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.swarm", description=__doc__)
    parser.add_argument("plan", type=Path, help="a SwarmPlan in MessagePack")
    parser.add_argument("out", type=Path, help="where the evidence goes, without suffix")
    options = parser.parse_args(arguments)
    try:
        plan = check(msgspec.msgpack.decode(options.plan.read_bytes(), type=SwarmPlan))
    except (OSError, PlanError, msgspec.DecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    uvloop.run(_serve(plan, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
