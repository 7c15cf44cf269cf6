"""The plan of a swarm: where its sockets connect, as whom, from which addresses, how fast."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from loadtests.engine.plan import PlanError


class SwarmClient(msgspec.Struct, frozen=True, kw_only=True):
    """One socket.

    Attributes:
        user: the id of the person it belongs to; only a label in the evidence.
        token: access token, sent as subprotocol (R4.2).
    """

    user: str
    token: str


class SwarmPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A swarm.

    Attributes:
        url: ``wss://host:port/ws`` (or ``ws://``, directly at a gateway).
        clients: the sockets.
        ca: file of the CA that signed the certificate; empty trusts the system's.
        addresses: source addresses, used in turn.
        connect_rate: handshakes begun a second.
        connect_timeout: seconds for one handshake, and for the first message after it.
    """

    url: str
    clients: tuple[SwarmClient, ...]
    ca: str = ""
    addresses: tuple[str, ...] = ()
    connect_rate: float = 200.0
    connect_timeout: float = 15.0

    @property
    def split_url(self) -> SplitResult:
        """The URL in its parts."""
        return urlsplit(self.url)

    @property
    def port(self) -> int:
        """The URL's port."""
        split = self.split_url
        return split.port or (443 if split.scheme == "wss" else 80)


def check(plan: SwarmPlan) -> SwarmPlan:
    """Return the plan unchanged if it can be carried out.

    Raises:
        PlanError: with all faults.
    """
    faults = []
    split = plan.split_url
    if split.scheme not in ("ws", "wss") or not split.hostname:
        faults.append(f"url is {plan.url!r}, expected ws(s)://host[:port]/path")
    if not plan.clients:
        faults.append("clients is empty: nothing would connect")
    if plan.ca and not Path(plan.ca).is_file():
        faults.append(f"ca is {plan.ca!r}, but there is no such file")
    if plan.connect_rate <= 0:
        faults.append(f"connect_rate is {plan.connect_rate:g}, expected more than 0 a second")
    if faults:
        raise PlanError(faults)
    return plan
