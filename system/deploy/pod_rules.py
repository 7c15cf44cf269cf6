"""Rules about single workloads: probes, room, rights, images, the time they are given to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from system.deploy.rendering import Document
from system.deploy.workloads import Finding, bytes_of, cores_of, workloads
from system.platform.config.settings import NAMES, VERSION

_PROCESSES: Final = frozenset(NAMES.values())
_DRAIN_SECONDS: Final = 10  # R0.11
_PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")
_HEALTH: Final = {
    "startupProbe": "/health/live",
    "livenessProbe": "/health/live",
    "readinessProbe": "/health/ready",
}  # R1.54


def probes(documents: Sequence[Document]) -> Iterator[Finding]:
    """What runs for good says when it has started, lives and is ready; our processes by R1.54."""
    for workload in workloads(documents, "Deployment", "StatefulSet"):
        for container in workload.containers:
            for name in _PROBES:
                probe = container.get(name)
                if probe is None:
                    yield workload.finding(f"{container['name']} has no {name}")
                    continue
                path = probe.get("httpGet", {}).get("path")
                if workload.name in _PROCESSES and path != _HEALTH[name]:
                    yield workload.finding(f"{name} asks {path!r}, expected {_HEALTH[name]!r}")
                port = next(
                    (probe[k]["port"] for k in ("httpGet", "tcpSocket") if k in probe), None
                )
                if port is not None and port not in workload.ports:
                    yield workload.finding(f"{name} asks port {port!r}, which no container has")


def room(documents: Sequence[Document]) -> Iterator[Finding]:
    """Every container asks for CPU and memory, and has a limit of both that is not below."""
    for workload in workloads(documents):
        for container in workload.containers:
            resources = container.get("resources", {})
            for what, number in (("cpu", cores_of), ("memory", bytes_of)):
                asked = resources.get("requests", {}).get(what)
                limit = resources.get("limits", {}).get(what)
                if asked is None or limit is None:
                    yield workload.finding(
                        f"{container['name']}: {what} asked {asked}, limit {limit}, expected both"
                    )
                elif number(str(asked)) > number(str(limit)):
                    yield workload.finding(f"{what} asks {asked}, more than its limit {limit}")
            for mount in workload.pod.get("volumes", []):
                if "emptyDir" in mount and "sizeLimit" not in mount["emptyDir"]:
                    yield workload.finding(f"volume {mount['name']} has no sizeLimit")


def rights(documents: Sequence[Document]) -> Iterator[Finding]:
    """The restricted pod security standard, and nothing to do with the cluster."""
    for workload in workloads(documents):
        pod = workload.pod
        context = pod.get("securityContext", {})
        wanted = {
            "runAsNonRoot is not true": context.get("runAsNonRoot") is True,
            "runAsUser is root or unset": context.get("runAsUser", 0) > 0,
            "no seccomp profile RuntimeDefault": context.get("seccompProfile")
            == {"type": "RuntimeDefault"},
            "automountServiceAccountToken is not false": pod.get("automountServiceAccountToken")
            is False,
            "enableServiceLinks is not false": pod.get("enableServiceLinks") is False,
            "uses the default service account": pod.get("serviceAccountName") not in (None, ""),
            "shares a namespace of the machine": not any(
                pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")
            ),
            "mounts a path of the machine": not any(
                "hostPath" in volume for volume in pod.get("volumes", [])
            ),
        }
        yield from (workload.finding(seen) for seen, good in wanted.items() if not good)
        for container in workload.containers:
            own = container.get("securityContext", {})
            wanted = {
                "may gain rights": own.get("allowPrivilegeEscalation") is False,
                "has a root file system that can be written": own.get("readOnlyRootFilesystem")
                is True,
                "keeps capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                "is privileged": not own.get("privileged"),
            }
            yield from (
                workload.finding(f"container {container['name']} {seen}")
                for seen, good in wanted.items()
                if not good
            )


def ending(documents: Sequence[Document]) -> Iterator[Finding]:
    """A pod is taken off before it is told to end, and then has the 10 s of R0.11."""
    for workload in workloads(documents, "Deployment"):
        for container in workload.containers:
            hook = container.get("lifecycle", {}).get("preStop", {})
            pause = int(hook.get("sleep", {}).get("seconds", 0))
            grace = int(workload.pod.get("terminationGracePeriodSeconds", 0))
            if pause <= 0:
                yield workload.finding("no preStop pause, expected one before SIGTERM")
            if grace < pause + _DRAIN_SECONDS:
                yield workload.finding(
                    f"ends {grace} s after the {pause} s pause began, "
                    f"expected at least {pause + _DRAIN_SECONDS} s"
                )


def images(documents: Sequence[Document]) -> Iterator[Finding]:
    """Every image was named by components/images: a registry, a fixed tag, ours of this version."""
    for workload in workloads(documents):
        for container in workload.containers:
            image = str(container["image"])
            name, _, tag = image.partition(":")
            registry = name.partition("/")[0]
            if "." not in registry or not tag or tag == "latest":
                yield workload.finding(f"image {image!r}, expected registry/name:tag")
            elif "/seatrial/" in name and tag != VERSION:
                yield workload.finding(f"image {image!r}, expected version {VERSION}")
