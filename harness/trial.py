"""A trial: everything one criterion's test may use to observe the target and to be judged.

The way is one: ``observe(trial)`` returns what it saw, the trial writes it down, ``check`` judges
the file that was written, and the outcome is kept for the fold.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import shlex
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import msgspec

from harness.criterion import Criterion
from harness.evidence import Evidence, EvidenceFolder
from harness.probe import CouldNotObserve, http_client
from harness.target import PLACEHOLDERS, Target
from harness.thresholds import Limits
from harness.verdict import Outcome, Verdict, inconclusive

Observe = Callable[["Trial"], Mapping[str, Any]]
Check = Callable[[Evidence, Limits], Outcome]


class TimeLimitReached(BaseException):
    """The criterion's hard time limit; not an Exception, so that no probe swallows it."""


class Decided(Exception):
    """A test's outcome other than PASS, raised after it was kept, so that pytest shows it."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(f"{outcome.verdict}: {outcome.reason}")


class Trial:
    """What a criterion's test is given.

    Attributes:
        criterion: the promise under trial.
        target: what is judged.
        limits: the criterion's numbers under the run's profile.
        profile: quick, full or soak.
        prefix: begins every name this run creates in the target.
        evidence: where observations are written.
    """

    def __init__(
        self,
        criterion: Criterion,
        target: Target,
        limits: Limits,
        *,
        profile: str,
        prefix: str,
        run_folder: Path,
        addresses: AddressBook,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.criterion = criterion
        self.target = target
        self.limits = limits
        self.profile = profile
        self.prefix = prefix
        self.evidence = EvidenceFolder(run_folder, criterion.id)
        self.outcomes: list[Outcome] = []
        self._addresses = addresses
        self._on_progress = on_progress

    def decide(
        self, observe: Observe, check: Check, *, name: str = "observation", confirm: bool = True
    ) -> None:
        """Observe, write down, judge; keep the outcome and raise it unless it is a PASS.

        Args:
            observe: the probe; CouldNotObserve, transport errors and its own crashes make the
                outcome inconclusive.
            check: pure judgement over the written evidence.
            name: of the evidence file.
            confirm: a FAIL counts only when a second observation FAILs too (rule 3).

        Raises:
            Decided: the outcome is not a PASS.
        """
        outcome = self._attempt(observe, check, name)
        if outcome.verdict is Verdict.FAIL and confirm:
            self.progress("seen to fail; looking a second time")
            again = self._attempt(observe, check, f"{name}-second")
            if again.verdict is not Verdict.FAIL:
                outcome = msgspec.structs.replace(
                    inconclusive(
                        f"the first look failed ({outcome.reason}), the second did not "
                        f"({again.verdict}{': ' + again.reason if again.reason else ''})"
                    ),
                    figures=again.figures,
                    evidence=self.evidence.relative_files(),
                )
            else:
                outcome = msgspec.structs.replace(again, evidence=self.evidence.relative_files())
        self.outcomes.append(outcome)
        if outcome.verdict is not Verdict.PASS:
            raise Decided(outcome)

    def _attempt(self, observe: Observe, check: Check, name: str) -> Outcome:
        try:
            observation = observe(self)
        except CouldNotObserve as error:
            return inconclusive(f"could not observe: {error}", self.evidence.relative_files())
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            reason = f"could not reach the target: {type(error).__name__}: {error}"
            return inconclusive(reason, self.evidence.relative_files())
        except Exception as error:  # a crash of ours must never decide about the target
            self.evidence.write(f"{name}-crash", {"traceback": traceback.format_exc()})
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            reason = f"the probe broke at {place}: {type(error).__name__}: {error}"
            return inconclusive(reason, self.evidence.relative_files())
        written = self.evidence.write(name, observation)
        try:
            outcome = check(written, self.limits)
        except Exception as error:
            self.evidence.write(f"{name}-crash", {"traceback": traceback.format_exc()})
            reason = f"the check broke on its evidence: {type(error).__name__}: {error}"
            return inconclusive(reason, self.evidence.relative_files())
        return msgspec.structs.replace(outcome, evidence=self.evidence.relative_files())

    def progress(self, text: str) -> None:
        """Say what is going on, for the person at the terminal."""
        self._on_progress(text)

    def exempt_address(self, index: int = 0) -> str:
        """A source address that is free of rate limits.

        Raises:
            CouldNotObserve: the target grants none.
        """
        return self._addresses.exempt(index)

    def fresh_address(self) -> str:
        """A limited source address that nobody used for longest, so that its limits are idle.

        Raises:
            CouldNotObserve: the target grants none.
        """
        return self._addresses.fresh()

    def client(
        self, address: str | None = None, *, base: str = "", timeout: float = 10.0
    ) -> httpx.Client:
        """A client of the target's origin (or of ``base``), bound to an exempt address.

        Args:
            address: source address; default the first exempt one, or none where there is none.
            base: another base URL, such as a service's own port.
            timeout: seconds.
        """
        if address is None and self.target.addresses.exempt:
            address = self.exempt_address()
        return http_client(
            base or self.target.http.origin,
            ca=self.target.http.ca,
            address=address,
            timeout=timeout,
        )

    def service(self, name: str) -> str:
        """The base URL of a service's own port.

        Raises:
            CouldNotObserve: the target file does not name it.
        """
        try:
            return self.target.services[name].url
        except KeyError:
            raise CouldNotObserve(
                f"the target file has no [services.{name}] with its url"
            ) from None

    def members(self, name: str) -> tuple[str, ...]:
        """The base URLs of all members of a service, as many as it has.

        Raises:
            CouldNotObserve: the target file does not name it.
        """
        self.service(name)
        return self.target.members_of(name)

    def take_place(self, service: str) -> tuple[str, int]:
        """End a service and free its place for a stand-in, until its ``start``.

        Returns:
            where the stand-in must listen.

        Raises:
            CouldNotObserve: it is not known where, or the command failed.
        """
        url = self.service(service)
        lent = self.target.services[service].stand_in
        place = urlsplit(f"//{lent}" if lent else url)
        if place.port is None:
            raise CouldNotObserve(f"{lent or url} has no port to stand in at")
        self.control(service, "lend" if lent else "stop")
        return (place.hostname or "", place.port) if lent else ("127.0.0.1", place.port)

    def control(self, part: str, action: str, *, seconds: float = 60.0) -> None:
        """Act on a part by the target's command: stop, start, pause, resume or lend.

        Raises:
            CouldNotObserve: no such command, or it failed.
        """
        commands = self.target.control_of(part)
        command = getattr(commands, action, "") if commands else ""
        if not command:
            raise CouldNotObserve(f"the target file has no [control.{part}] {action}")
        _run(shlex.split(command), f"control {part} {action}", seconds)

    @contextlib.contextmanager
    def fault(
        self,
        part: str,
        dependency: str,
        kind: Literal["cut", "slow", "lose"],
        amount: int = 0,
        *,
        seconds: float = 60.0,
    ) -> Iterator[None]:
        """Disturb the way between a part and a dependency for the block, then heal it.

        Healed however the block ends; ``target.fault_of`` tells beforehand what is offered.

        Args:
            kind: cut (silence), slow (later by milliseconds, each way), lose (percent of packets).
            amount: milliseconds or percent.
            seconds: for each of the two commands.

        Raises:
            CouldNotObserve: no such command, or it or the healing failed.
        """
        command = self.target.fault_of(part, dependency, kind)
        if not command:
            raise CouldNotObserve(f"the target file has no [faults.{part}.{dependency}] {kind}")
        words = shlex.split(command)
        if placeholder := PLACEHOLDERS[kind]:
            words = [word.replace(placeholder, str(amount)) for word in words]
        heal = shlex.split(self.target.fault_of(part, dependency, "heal"))
        way = f"{part} {dependency}"
        try:
            _run(words, f"fault {kind} {way}", seconds)
            yield
        finally:
            # A terminal's Ctrl-C is for us, not for whoever heals.
            try:
                _run(heal, f"fault heal {way}", seconds, own_session=True)
            except (KeyboardInterrupt, TimeLimitReached):  # struck the healing itself
                _run(heal, f"fault heal {way}", seconds, own_session=True)
                raise


def _run(words: list[str], what: str, seconds: float, *, own_session: bool = False) -> None:
    """Run a command of the target file.

    Args:
        words: the command.
        what: names it in an error.
        seconds: it may take.
        own_session: no signal of our terminal reaches it.

    Raises:
        CouldNotObserve: it failed, or took longer.
    """
    try:
        subprocess.run(
            words,
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=own_session,
        )
    except subprocess.CalledProcessError as error:
        tail = (error.stderr or error.stdout or "").strip()[-300:]
        raise CouldNotObserve(f"{what} ended with {error.returncode}: {tail}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotObserve(f"{what} failed: {error}") from error


class AddressBook:
    """Hands out source addresses; remembers across runs when each limited one was last used.

    Args:
        target: its ``[addresses]`` table.
        memory: JSON file of address → time of last use (seconds since 1970).
    """

    def __init__(self, target: Target, memory: Path) -> None:
        self._target = target
        self._memory = memory

    def exempt(self, index: int = 0) -> str:
        """The exempt address with this index (networks are counted through, hosts only)."""
        remaining = index
        for text in self._target.addresses.exempt:
            network = ipaddress.ip_network(text)
            hosts = 1 if network.num_addresses == 1 else network.num_addresses - 2
            if remaining < hosts:
                first = network[0] if network.num_addresses == 1 else network[1]
                return str(first + remaining)
            remaining -= hosts
        raise CouldNotObserve(
            f"the target file grants {index - remaining} exempt addresses under [addresses] "
            f"exempt; number {index + 1} was needed"
        )

    def fresh(self) -> str:
        """The limited address whose last use lies furthest back; a tie is broken at random."""
        if not self._target.addresses.limited:
            raise CouldNotObserve("the target file has no [addresses] limited network")
        used: dict[str, float] = {}
        if self._memory.exists():
            used = json.loads(self._memory.read_text(encoding="utf-8"))
        hosts = [str(host) for host in ipaddress.ip_network(self._target.addresses.limited).hosts()]
        random.shuffle(hosts)
        chosen = min(hosts, key=lambda host: used.get(host, 0.0))
        used[chosen] = time.time()
        self._memory.write_text(json.dumps(used), encoding="utf-8")
        return chosen
