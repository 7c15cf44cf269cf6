"""Who can reach whom when the network policies are held, against who is meant to (R0.7, R0.12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from system.deploy.rendering import Document
from system.deploy.workloads import Finding, Workload, of_kind, place, selects, workloads
from system.platform.config.settings import NAMES, SERVICES
from system.stack.ports import STANDARD

Way = tuple[str, str, int]

_SERVICE_NAMES: Final = tuple(NAMES[service] for service in SERVICES)
_PROCESSES: Final = (*_SERVICE_NAMES, NAMES["gateway"])
OUTSIDE: Final = "outside"


def _meant() -> frozenset[Way]:
    """The platform's ways: from whom, to whom, port."""
    ways: set[Way] = {("edge", "api-gateway", STANDARD["gateway"])}
    for service in SERVICES:
        port = STANDARD[service]
        ways.add(("api-gateway", NAMES[service], port))
        ways.add(("admin-service", NAMES[service], port))  # its health page (R1.143)
        database = (f"{service}-postgres", STANDARD[f"postgres-{service}"])
        ways |= {(NAMES[service], *database), (f"{service}-migration", *database)}
    ways |= {(name, "auth-service", STANDARD["auth"]) for name in _SERVICE_NAMES[1:]}
    ways.add(("admin-service", "api-gateway", STANDARD["gateway"]))
    for name in _PROCESSES:
        ways |= {(name, "rabbitmq", STANDARD["rabbitmq"]), (name, "redis", STANDARD["redis"])}
    ways |= {(OUTSIDE, "edge", STANDARD["edge-http"]), (OUTSIDE, "edge", STANDARD["edge-https"])}
    ways.add(("locust-worker", "locust-master", 5557))
    return frozenset(ways)


MEANT: Final = _meant()


def network(documents: Sequence[Document]) -> Iterator[Finding]:
    """Everything is shut, and exactly the ways that are meant are open, at both ends."""
    policies = list(of_kind(documents, "NetworkPolicy"))
    everywhere = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    shut = [
        policy
        for policy in everywhere
        if set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    ]
    if not shut:
        yield Finding("NetworkPolicy", "none denies everything to every pod, expected one")
    known = workloads(documents)
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        if not any(selects(selector, workload.labels) for workload in known):
            yield Finding(place(policy), "selects no pod, expected at least one")
    for workload in known:
        own = [
            policy
            for policy in policies
            if policy not in everywhere and selects(policy["spec"]["podSelector"], workload.labels)
        ]
        if not own:
            yield workload.finding("covered by no policy of its own, expected one")
    open_ways = ways(documents)
    names = {workload.name for workload in known} | {OUTSIDE}
    meant = {way for way in MEANT if way[0] in names and way[1] in names}
    for source, target, port in sorted(open_ways - meant):
        yield Finding("NetworkPolicy", f"{source} reaches {target}:{port}, expected not to")
    for source, target, port in sorted(meant - open_ways):
        yield Finding("NetworkPolicy", f"{source} does not reach {target}:{port}, expected to")


def ways(documents: Sequence[Document]) -> set[Way]:
    """Who reaches whom inside the namespace, and what is reached from outside of it."""
    known = workloads(documents)
    policies = list(of_kind(documents, "NetworkPolicy"))
    found: set[Way] = set()
    for target in known:
        for port in target.ports.values():
            entries = list(_rules(policies, target, "ingress"))
            if any(_lets(rule, "from", port, None) for rule in entries):
                found.add((OUTSIDE, target.name, port))
            for source in known:
                leaves = any(
                    _lets(rule, "to", port, target) for rule in _rules(policies, source, "egress")
                )
                if leaves and any(_lets(rule, "from", port, source) for rule in entries):
                    found.add((source.name, target.name, port))
    # Whoever is open to the world is open to its neighbours; those who may call are listed apart.
    public = {way[1:] for way in found if way[0] == OUTSIDE}
    return {way for way in found if way[0] == OUTSIDE or way[1:] not in public}


def _rules(
    policies: Sequence[Document], workload: Workload, direction: str
) -> Iterator[Mapping[str, Any]]:
    for policy in policies:
        if selects(policy["spec"]["podSelector"], workload.labels):
            yield from policy["spec"].get(direction, [])


def _lets(rule: Mapping[str, Any], peers: str, port: int, other: Workload | None) -> bool:
    """Whether a rule lets this port through for a pod of the namespace; with None, for anyone."""
    if not any(_covers(entry, port) for entry in rule.get("ports", [{"port": port}])):
        return False
    if peers not in rule:
        return True
    if other is None:
        return any("ipBlock" in peer for peer in rule[peers])
    return any(
        "namespaceSelector" not in peer
        and "ipBlock" not in peer
        and selects(peer.get("podSelector", {}), other.labels)
        for peer in rule[peers]
    )


def _covers(entry: Mapping[str, Any], port: int) -> bool:
    if entry.get("protocol", "TCP") != "TCP":
        return False
    if "port" not in entry:
        return True
    return int(entry["port"]) <= port <= int(entry.get("endPort", entry["port"]))
