"""Rules about what refers to what: selectors, ports, accounts, volumes, budgets, autoscalers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from system.deploy.rendering import Document
from system.deploy.workloads import (
    Finding,
    Workload,
    named,
    of_kind,
    place,
    selects,
    workloads,
)
from system.platform.config.settings import NAMES, SERVICES
from system.stack.ports import STANDARD

PORTS: Final[Mapping[str, frozenset[int]]] = {
    "edge": frozenset({STANDARD["edge-http"], STANDARD["edge-https"]}),
    **{name: frozenset({STANDARD[process]}) for process, name in NAMES.items()},
    **{f"{s}-postgres": frozenset({STANDARD[f"postgres-{s}"]}) for s in SERVICES},
    "rabbitmq": frozenset(
        STANDARD[name] for name in ("rabbitmq", "rabbitmq-management", "rabbitmq-metrics")
    ),
    "redis": frozenset({STANDARD["redis"]}),
}  # R0.6


def selectors(documents: Sequence[Document]) -> Iterator[Finding]:
    """Each workload selects its own pods; each Service leads to one workload, never to a Job."""
    known = workloads(documents)
    for workload in workloads(documents, "Deployment", "StatefulSet"):
        selector = workload.document["spec"]["selector"]
        taken = {other.name for other in known if selects(selector, other.labels)}
        if taken != {workload.name}:
            yield workload.finding(f"its selector takes the pods of {sorted(taken)}")
        for rule in workload.pod.get("topologySpreadConstraints", []):
            if not selects(rule["labelSelector"], workload.labels):
                yield workload.finding("is spread by a selector that does not take its own pods")
    for workload in workloads(documents, "Deployment"):
        if not workload.pod.get("topologySpreadConstraints"):
            yield workload.finding("is not spread over machines")
    for service in of_kind(documents, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        taken_by = [workload for workload in known if selects(selector, workload.labels)]
        if len(taken_by) != 1:
            seen = sorted(workload.place for workload in taken_by)
            yield Finding(place(service), f"leads to {seen}, expected one workload")
            continue
        for port in service["spec"]["ports"]:
            if port.get("targetPort") not in taken_by[0].ports:
                yield Finding(place(service), f"port {port['port']} leads to no container port")


def ports(documents: Sequence[Document]) -> Iterator[Finding]:
    """Containers and Services have the contract's ports (R0.6)."""
    for workload in workloads(documents):
        expected = PORTS.get(workload.name)
        if expected is not None and set(workload.ports.values()) != expected:
            seen = sorted(workload.ports.values())
            yield workload.finding(f"ports {seen}, expected {sorted(expected)}")
    for service in of_kind(documents, "Service"):
        expected = PORTS.get(service["metadata"]["name"])
        seen_ports = {int(port["port"]) for port in service["spec"]["ports"]}
        if expected is not None and seen_ports != expected:
            yield Finding(
                place(service), f"ports {sorted(seen_ports)}, expected {sorted(expected)}"
            )
        public = service["spec"].get("type", "ClusterIP") != "ClusterIP"
        if public != (service["metadata"]["name"] == "edge"):
            yield Finding(place(service), "the edge, and nothing else, is public (R0.7)")


def budgets(documents: Sequence[Document]) -> Iterator[Finding]:
    """Each Deployment has one disruption budget, which lets one pod at a time go."""
    found = list(of_kind(documents, "PodDisruptionBudget"))
    known = workloads(documents)
    for workload in workloads(documents, "Deployment"):
        own = [b for b in found if selects(b["spec"]["selector"], workload.labels)]
        if len(own) != 1:
            yield workload.finding(f"{len(own)} disruption budgets, expected 1")
        elif own[0]["spec"].get("maxUnavailable") != 1:
            yield workload.finding("its disruption budget does not let exactly one pod go")
    for budget in found:
        taken = [w.place for w in known if selects(budget["spec"]["selector"], w.labels)]
        if len(taken) != 1:
            yield Finding(place(budget), f"covers {taken}, expected one workload")


def scaling(documents: Sequence[Document]) -> Iterator[Finding]:
    """Each Deployment has a fixed number of replicas or an autoscaler, not both and not neither."""
    scalers = {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler
        for scaler in of_kind(documents, "HorizontalPodAutoscaler")
    }
    deployments = {workload.name: workload for workload in workloads(documents, "Deployment")}
    for name in scalers.keys() - deployments.keys():
        yield Finding(place(scalers[name]), f"scales {name}, which is not there")
    for name, workload in deployments.items():
        fixed = workload.document["spec"].get("replicas")
        scaler = scalers.get(name)
        if (fixed is None) == (scaler is None):
            yield workload.finding(
                f"replicas {fixed}, autoscaler {'there' if scaler else 'missing'}, expected one"
            )
        if scaler is not None:
            yield from _scaler(scaler, workload)


def _scaler(scaler: Document, workload: Workload) -> Iterator[Finding]:
    spec = scaler["spec"]
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    if not 2 <= least <= most:
        yield Finding(place(scaler), f"from {least} to {most} replicas, expected from 2 upwards")
    metrics = {
        metric["resource"]["name"]
        if metric["type"] == "Resource"
        else metric["pods"]["metric"]["name"]
        for metric in spec["metrics"]
    }
    if "cpu" not in metrics:
        yield Finding(place(scaler), f"follows {sorted(metrics)}, expected the CPU among them")
    if workload.name == NAMES["gateway"] and "websocket_connections" not in metrics:
        yield Finding(place(scaler), "does not follow websocket_connections (R7.10)")


def references(documents: Sequence[Document], secrets: Sequence[Document]) -> Iterator[Finding]:
    """Whatever a pod names is there: ConfigMaps, Secrets, keys, volumes, its account.

    Args:
        secrets: those that there must be besides the documents; none lies in version control.
    """
    maps = named(of_kind(documents, "ConfigMap"))
    private = named(secrets)
    accounts = named(of_kind(documents, "ServiceAccount"))
    for document in of_kind(documents, "Secret"):
        yield Finding(place(document), "a Secret lies among the manifests")
    for workload in workloads(documents):
        account = str(workload.pod.get("serviceAccountName"))
        if accounts.get(account, {}).get("automountServiceAccountToken") is not False:
            yield workload.finding(f"account {account!r} is not there, or mounts its token")
        volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
        claims = {
            claim["metadata"]["name"]
            for claim in workload.document["spec"].get("volumeClaimTemplates", [])
        }
        mounted = set()
        for container in workload.containers:
            for source in container.get("envFrom", []):
                yield from _source(workload, source, maps, private)
            mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
        for name in sorted(mounted ^ (volumes.keys() | claims)):
            yield workload.finding(f"volume {name!r} is mounted or declared, expected both")
        for volume in volumes.values():
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield workload.finding(f"no ConfigMap {volume['configMap']['name']!r}")
            if "secret" in volume and volume["secret"]["secretName"] not in private:
                yield workload.finding(f"no Secret {volume['secret']['secretName']!r}")


def _source(
    workload: Workload,
    source: Mapping[str, Any],
    maps: Mapping[str, Document],
    private: Mapping[str, Document],
) -> Iterator[Finding]:
    if "configMapRef" in source and source["configMapRef"]["name"] not in maps:
        yield workload.finding(f"no ConfigMap {source['configMapRef']['name']!r}")
    if "secretRef" in source and source["secretRef"]["name"] not in private:
        yield workload.finding(f"no Secret {source['secretRef']['name']!r}")
