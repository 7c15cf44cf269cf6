"""With several gateways every client still gets every event, whichever gateway holds it."""

from __future__ import annotations

from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import crowd, deliveries, metrics

CRITERION = Criterion(
    id="websocket-scale-out",
    area="realtime",
    statement="With two gateways every client MUST still get every event that is for it, and none "
    "twice.",
    gate="each gateway holds ≥ 40 % of the clients; received = expected for each client, over "
    "≥ 10 broadcasts and the clients' own events; 0 leaked, 0 repeated",
    rules=("R3.6", "R4.24", "R5.16"),
    needs=(Access.METRICS, Access.EXEMPT, Access.AMQP),
    parts=("replicas", "websocket", "payments"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=180,
)

SUBJECTS = ("connected", "spread", "broadcasts", "targeted", "none of others'", "none twice")


def test_every_gateway_delivers_everything(trial: Trial) -> None:
    """Connections of each gateway, deliveries of each client."""
    # Each delivery is counted, and a lost one stays lost.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Open sockets through the edge, ask each gateway how many it holds, emit, reconcile."""
    gateways = trial.members("gateway")
    if len(gateways) < 2:
        raise CouldNotObserve("[services.gateway] members names one gateway, expected two or more")
    before = [_sockets_of(url) for url in gateways]
    with crowd.gathered(trial) as sockets:
        held = [_sockets_of(url) - was for url, was in zip(gateways, before, strict=True)]
        trial.progress(f"{trial.limits['clients']} sockets: {held} at the gateways")
        sent = sockets.emit(trial)
        document = sockets.swarm.finish()
    return {
        "connected": sockets.connected,
        "held": held,
        "sent": {kind: sum(m["kind"] == kind for m in sent.values()) for kind in deliveries.KINDS},
        **deliveries.reconcile(document, sent),
    }


def _sockets_of(gateway: str) -> float:
    return metrics.total(metrics.read(gateway), "websocket_connections")


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Spread over the gateways, and received equals expected in each of the two kinds."""
    tally = Tally(SUBJECTS)
    clients = limits["clients"]
    failed = evidence["connected"]["failed"]
    tally.equal(
        "connected",
        evidence["connected"]["welcomed"],
        clients,
        place=f"sockets welcomed (failed: {failed})",
    )
    held = evidence["held"]
    # 40 % for each of two; with more gateways as much less as an even share is less.
    least = limits["share_percent"] / 100 * 2 / len(held) * clients
    tally.judge(
        "spread",
        min(held) >= least,
        seen=f"{held} sockets at the gateways",
        expected=f"at least {least:g} at each",
    )
    tally.enough("broadcasts", evidence["sent"]["broadcast"], limits["broadcasts"])
    tally.enough("events of one's own", evidence["sent"]["targeted"], limits["users"])
    for subject, kind in (("broadcasts", "broadcast"), ("targeted", "targeted")):
        seen, expected = evidence["received"][kind], evidence["expected"][kind]
        tally.equal(subject, seen, expected, place=f"{kind} deliveries")
    tally.equal("none of others'", evidence["leaked"], 0, place="deliveries to others")
    tally.equal("none twice", evidence["repeated"], 0, place="repeated deliveries")
    for number, sockets in enumerate(held, 1):
        tally.figure(f"sockets at gateway {number}", sockets, limit=least, bound="lower")
    tally.figure("deliveries", sum(evidence["received"].values()))
    return tally.outcome()
