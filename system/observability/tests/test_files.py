"""Tests of the files for Prometheus and Grafana, without a running platform (R7.15)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from system.observability import dashboards
from system.observability.__main__ import HERE, main, ports_of, render
from system.platform.observability import metrics  # registers them

from .promql import ADDED, used

# Of the broker and of Prometheus itself; the platform test sees that the broker has them.
FOREIGN = {
    "up": frozenset[str](),
    "rabbitmq_detailed_queue_messages": frozenset({"queue", "vhost"}),
}


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    document = yaml.safe_load((HERE / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def queries() -> dict[str, str]:
    """Every query of dashboards and alerts, by where it stands."""
    found = {f"alert {name}": rule["expr"] for name, rule in alerts().items()}
    for file in sorted((HERE / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                found[f"{file.name}: {panel['title']} {target['refId']}"] = target["expr"]
    return found


def labels_of_ours() -> dict[str, frozenset[str]]:
    """Every series that our processes can expose, with its labels."""
    found: dict[str, frozenset[str]] = {}
    for metric in vars(metrics).values():
        names = getattr(metric, "_labelnames", None)
        if names is None:
            continue
        kind, name = metric._type, metric._name
        if kind == "histogram":
            found[f"{name}_bucket"] = frozenset({*names, "le"})
            found[f"{name}_count"] = found[f"{name}_sum"] = frozenset(names)
        else:
            found[f"{name}_total" if kind == "counter" else name] = frozenset(names)
    for family in REGISTRY.collect():
        for sample in family.samples:
            found.setdefault(sample.name, frozenset(sample.labels))
    return found


@pytest.mark.parametrize(("place", "query"), queries().items())
def test_r7_15_queries_use_only_metrics_and_labels_that_exist(place: str, query: str) -> None:
    """R7.15: each metric and label of a query is one that a process really has."""
    known = labels_of_ours() | FOREIGN
    uses = list(used(query))
    assert uses, f"{place} uses no metric"
    for name, labels in uses:
        assert name in known, f"{place}: there is no {name}"
        assert labels - ADDED <= known[name], f"{place}: {name} has no {labels - known[name]}"


def test_the_reader_of_queries_sees_what_is_wrong() -> None:
    """The check above can fail: an unknown label and an unknown metric are both seen."""
    assert ("a_total", frozenset({"colour"})) in list(used('rate(a_total{colour="red"}[5m])'))
    assert ("b", frozenset({"shape"})) in list(used("sum by (shape) (b)"))


def test_r7_15_there_is_an_alert_for_each_danger() -> None:
    """R7.15: p95 > 1 s, errors > 5 %, target down, DLQ not empty, outbox pending > 60 s."""
    rules = alerts()
    assert {name: rule["expr"] for name, rule in rules.items()}.keys() == {
        "SlowRequests",
        "FailingRequests",
        "TargetDown",
        "DeadLetters",
        "OutboxStuck",
    }
    assert rules["SlowRequests"]["expr"].endswith("> 1")
    assert rules["FailingRequests"]["expr"].endswith("> 0.05")
    assert 'queue="events.dlq"' in rules["DeadLetters"]["expr"]


def test_r7_15_the_dashboards_are_as_they_are_drawn() -> None:
    """R7.15: an "API Gateway Dashboard" and a "Services Overview", never out of date."""
    folder = HERE / "grafana" / "dashboards"
    assert {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()} == (
        dashboards.files()
    )
    titles = {json.loads(text)["title"] for text in dashboards.files().values()}
    assert titles == {"API Gateway Dashboard", "Services Overview"}


def test_r7_15_everything_is_scraped_every_15_seconds(tmp_path: Path) -> None:
    """R7.15: gateway, services and RabbitMQ, with the ports given."""
    ports = {
        "gateway": 1,
        "auth": 2,
        "payments": 3,
        "admin": 4,
        "profile": 5,
        "rabbitmq_metrics": 6,
    }
    render(tmp_path, ports, "10.0.0.1")

    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["global"]["scrape_interval"] == "15s"
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    assert targets == {
        "api-gateway": ["10.0.0.1:1"],
        "auth-service": ["10.0.0.1:2"],
        "payments-service": ["10.0.0.1:3"],
        "admin-service": ["10.0.0.1:4"],
        "profile-service": ["10.0.0.1:5"],
        "rabbitmq": ["10.0.0.1:6"],
        "rabbitmq-queues": ["10.0.0.1:6"],
    }
    assert (tmp_path / config["rule_files"][0]).is_file()
    provider = yaml.safe_load(
        (tmp_path / "grafana/provisioning/dashboards/platform.yml").read_text(encoding="utf-8")
    )["providers"][0]
    assert sorted(path.name for path in Path(provider["options"]["path"]).iterdir()) == sorted(
        dashboards.files()
    )


def test_the_contract_s_ports_are_the_default() -> None:
    """R0.6."""
    assert ports_of(None) == {
        "gateway": 3000,
        "auth": 3001,
        "payments": 3002,
        "admin": 3003,
        "profile": 3004,
        "rabbitmq_metrics": 15692,
    }


def test_the_command_s_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 done, 1 failed with the reason, 2 wrong usage."""
    assert main(["render", str(tmp_path / "out")]) == 0
    assert main(["render", "--stack", "no-such-stack", str(tmp_path / "out")]) == 1
    assert "no-such-stack" in capsys.readouterr().err
    assert main(["paint"]) == 2
