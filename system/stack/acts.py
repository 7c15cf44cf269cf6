"""Acts on one part: start, stop, kill, pause, resume; from its recorded launch, by any process."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence

from system.stack import process, readiness
from system.stack.errors import StackError
from system.stack.launch import Launch
from system.stack.state import MARKER, StateFolder

_START_SECONDS = 180.0  # a busy machine is slow, not broken; a part that ends is seen at once
_SETTLE_SECONDS = 2.0
_FREEZE_SECONDS = 5.0
_POLL_SECONDS = 0.1
_LOG_LINES = 25


class PartFailed(StackError):
    """A part ended or did not get ready; shows the end of its log."""

    def __init__(self, state: StateFolder, part: str, seen: str) -> None:
        self.part = part
        log = state.log_of(part)
        super().__init__(f"{part}: {seen}\n--- end of {log}\n{tail(state, part, _LOG_LINES)}\n---")


def members_of(state: StateFolder, name: str) -> list[str]:
    """The members that a name stands for; see `StateFolder.members_of`."""
    return state.members_of(name)


def control(state: StateFolder, part: str, action: str) -> None:
    """Do one act on all members of a part at once, or on one member; returns when it is done.

    Args:
        part: the part's name, or a member's.
        action: stop, start, restart, kill, pause or resume.

    Raises:
        UnknownPart: no part has that name.
        StackNotThere: the stack was not started.
        PartFailed: the part did not get ready again.
        StackBusy: another command works on the stack or the part.
    """
    members = state.members_of(part)  # before the lock, which would make the folder
    with state.held(alone=False) as lock, contextlib.ExitStack() as held:
        for member in members:
            held.enter_context(state.part_held(member))
        together(members, lambda member: ACTIONS[action](state, member, lock))


def together(members: Sequence[str], act: Callable[[str], None]) -> None:
    """Act on all members at once; the first error is raised when all are done."""
    if len(members) < 2:
        for member in members:
            act(member)
        return
    from concurrent.futures import ThreadPoolExecutor  # costs 10 ms, which one member need not pay

    with ThreadPoolExecutor(len(members)) as pool:
        for done in [pool.submit(act, member) for member in members]:
            done.result()


def start(state: StateFolder, part: str, lock: int) -> None:
    """Start a part from its recorded launch if it does not run, and wait until it serves."""
    if state.process_of(part) is None:
        spawn(state, state.launch_of(part), lock)
    wait_until_ready(state, part, strict=False)
    launch = state.launch_of(part)
    if launch.readiness.kind in ("http", "edge"):
        # Usually its dependencies are there and it finds them at once; if not, it serves anyway.
        deadline = time.monotonic() + _SETTLE_SECONDS
        while readiness.problem(launch.readiness, strict=True) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def stop(state: StateFolder, part: str, _lock: int) -> None:
    """End a part in good order."""
    end(state, part, quick=False)


def kill(state: StateFolder, part: str, _lock: int) -> None:
    """End a part and all it started without warning."""
    found = state.process_of(part)
    if found is not None:
        process.end(found, signal.SIGKILL, 5.0)


def restart(state: StateFolder, part: str, lock: int) -> None:
    """End a part in good order and start it again on the same port."""
    stop(state, part, lock)
    start(state, part, lock)


def pause(state: StateFolder, part: str, _lock: int) -> None:
    """Freeze a part: its connections stay, nothing answers; frozen when this returns."""
    members = _signal_all(state, part, signal.SIGSTOP)
    # The kernel stops a process that runs at this moment a little after the signal was sent.
    deadline = time.monotonic() + _FREEZE_SECONDS
    while running := [member.pid for member in members if not _is_still(member)]:
        if time.monotonic() > deadline:
            raise PartFailed(state, part, f"processes {running} do not stop")
        time.sleep(0.001)


def resume(state: StateFolder, part: str, _lock: int) -> None:
    """Let a frozen part go on."""
    _signal_all(state, part, signal.SIGCONT)


ACTIONS: dict[str, Callable[[StateFolder, str, int], None]] = {
    "stop": stop,
    "start": start,
    "restart": restart,
    "kill": kill,
    "pause": pause,
    "resume": resume,
}


def spawn(state: StateFolder, launch: Launch, lock: int) -> None:
    """Start a part as recorded; the record is written first."""
    state.keep_launch(launch)
    child = process.launch(
        launch.command,
        environment={**launch.environment, MARKER: str(state.path)},
        folder=state.path / launch.folder,
        log=state.log_of(launch.part),
        pid_file=state.pid_file(launch.part),
        lock=lock,
        account=launch.account,
    )
    process.remember(child)
    # The launcher notes the pid within a millisecond or two; nobody may ask before that.
    deadline = time.monotonic() + 5.0
    while process.recorded(state.pid_file(launch.part)) is None and child.poll() is None:
        if time.monotonic() > deadline:
            raise PartFailed(state, launch.part, "its launcher did not note the pid within 5 s")
        time.sleep(0.001)


def end(state: StateFolder, part: str, *, quick: bool) -> None:
    """End a part if it runs; ``quick`` when its data is thrown away."""
    found = state.process_of(part)
    if found is None:
        return
    launch = state.launch_of(part)
    process.end(found, launch.signal(quick=quick), launch.grace)


def wait_until_ready(
    state: StateFolder,
    part: str,
    *,
    strict: bool,
    seconds: float = _START_SECONDS,
    given_up: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until a part answers.

    Args:
        strict: services must have all their dependencies; otherwise it is enough that they serve.
        given_up: ends the waiting without an error when it says true.

    Raises:
        PartFailed: it ended, or did not answer within ``seconds``.
    """
    launch = state.launch_of(part)
    deadline = time.monotonic() + seconds
    while not given_up():
        process.reap()
        if state.process_of(part) is None:
            raise PartFailed(state, part, "ended by itself while it was waited for")
        seen = readiness.problem(launch.readiness, strict=strict)
        if seen is None:
            return
        if time.monotonic() > deadline:
            raise PartFailed(state, part, f"not ready after {seconds:.0f} s ({seen})")
        time.sleep(_POLL_SECONDS)


def tail(state: StateFolder, part: str, lines: int) -> str:
    """The last lines of a part's log."""
    try:
        text = state.log_of(part).read_bytes()[-64 * 1024 :].decode("utf-8", "replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(empty)"


def _is_still(member: process.Process) -> bool:
    facts = process.read(member.pid)
    return facts is None or facts.process != member or facts.state in "TtZ"


def _signal_all(state: StateFolder, part: str, number: signal.Signals) -> list[process.Process]:
    found = state.process_of(part)
    if found is None:
        raise PartFailed(state, part, f"does not run, so it cannot be sent {number.name}")
    members = list(process.tree(found))
    for member in members:
        member.signal(number)
    return members
