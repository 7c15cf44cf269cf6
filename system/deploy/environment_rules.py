"""What each process is told, judged by the code that reads it (R0.13, R0.14, R0.18)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from system.deploy.rendering import Document
from system.deploy.workloads import Finding, Workload, named, of_kind, workloads
from system.edge.environment import settings_from
from system.edge.render import EdgeSettingsFault, render
from system.platform.config.faults import ConfigurationError
from system.platform.config.loading import load
from system.platform.config.settings import NAMES
from system.platform.config.variables import VARIABLES

# Read by the edge's container besides R0.13's (system/edge/environment.py).
_EDGE_ONLY: Final = frozenset({"EDGE_LISTEN", "EDGE_ACCESS_LOG"})
_KNOWN: Final = frozenset(variable.name for variable in VARIABLES) | _EDGE_ONLY
_READERS: Final = {
    process: frozenset(v.name for v in VARIABLES if process in v.readers) for process in NAMES
}


def environment(documents: Sequence[Document], secrets: Sequence[Document]) -> Iterator[Finding]:
    """Each process would start in production mode, and is told no secret that it does not read.

    Args:
        secrets: those that the pods refer to.
    """
    known = {workload.name: workload for workload in workloads(documents)}
    if not known.keys() & {"edge", *NAMES.values()}:
        return  # an overlay without the platform
    for process, name in NAMES.items():
        if name not in known:
            yield Finding(f"Deployment/{name}", "is not there")
            continue
        yield from _starts(process, known[name], variables(known[name], documents, secrets))
        yield from _owner_role(process, known, documents, secrets)
    if "edge" in known:
        yield from _edge(known["edge"], variables(known["edge"], documents, secrets))
    else:
        yield Finding("Deployment/edge", "is not there")


def variables(
    workload: Workload, documents: Sequence[Document], secrets: Sequence[Document]
) -> dict[str, str]:
    """The environment of a workload's containers."""
    maps, private = named(of_kind(documents, "ConfigMap")), named(secrets)
    told: dict[str, str] = {}
    for container in workload.containers:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                told |= maps.get(source["configMapRef"]["name"], {}).get("data", {})
            if "secretRef" in source:
                told |= private.get(source["secretRef"]["name"], {}).get("stringData", {})
        told |= {entry["name"]: str(entry["value"]) for entry in container.get("env", [])}
    return told


def _starts(process: str, workload: Workload, told: Mapping[str, str]) -> Iterator[Finding]:
    if told.get("NODE_ENV") != "production":
        yield workload.finding(f"NODE_ENV is {told.get('NODE_ENV')!r}, expected 'production'")
    try:
        settings = load(process, told)
    except ConfigurationError as refused:
        yield from (workload.finding(str(fault)) for fault in refused.faults)
        return
    if settings.port not in workload.ports.values():
        yield workload.finding(f"listens on {settings.port}, its ports are {workload.ports}")
    if settings.bind_address != "0.0.0.0":
        yield workload.finding(f"listens on {settings.bind_address}, expected 0.0.0.0")
    module = workload.containers[0].get("command", [])[-1:]
    if module != [f"system.{process}"]:
        yield workload.finding(f"starts {module}, expected system.{process}")
    for variable in sorted(told.keys() - _KNOWN):
        yield workload.finding(f"{variable} is no variable of R0.13")
    secret = {
        variable.name
        for variable in VARIABLES
        if variable.secret or variable.name.endswith(("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"))
    }
    for variable in sorted(told.keys() & secret - _READERS[process]):
        yield workload.finding(f"is told {variable}, which it does not read")
    if f"{process.upper()}_MIGRATION_DATABASE_URL" in told:
        yield workload.finding("is told the owner role's URL, expected only its migration (R0.19)")


def _owner_role(
    process: str,
    known: Mapping[str, Workload],
    documents: Sequence[Document],
    secrets: Sequence[Document],
) -> Iterator[Finding]:
    if process == "gateway":
        return
    name = f"{process}-migration"
    if name not in known:
        yield Finding(f"Job/{name}", "is not there")
        return
    told = variables(known[name], documents, secrets)
    try:
        url = load(process, told).owner_url(process)
    except ConfigurationError as refused:
        yield from (known[name].finding(str(fault)) for fault in refused.faults)
        return
    if not url:
        yield known[name].finding("is not told the owner role's URL")
    if known[name].containers[0].get("args") != [process]:
        yield known[name].finding(f"migrates another service than {process}")


def _edge(workload: Workload, told: Mapping[str, str]) -> Iterator[Finding]:
    try:
        settings = settings_from(told, Path("/var/lib/edge"), Path("/usr/share/edge"))
        render(settings)
    except EdgeSettingsFault as refused:
        yield from (workload.finding(fault) for fault in refused.faults)
        return
    mounts = [
        mount["mountPath"]
        for container in workload.containers
        for mount in container.get("volumeMounts", [])
    ]
    for path in (settings.certificate_path, settings.key_path):
        if str(Path(path).parent) not in mounts:
            yield workload.finding(f"{path} is mounted nowhere")
    if {settings.http_port, settings.https_port} != set(workload.ports.values()):
        yield workload.finding(
            f"listens on {settings.http_port} and {settings.https_port}, "
            f"its ports are {workload.ports}"
        )
