"""Tests on the running platform that what the files ask for is there (R7.15)."""

from __future__ import annotations

import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from system.conftest import RunningStack

pytestmark = pytest.mark.platform


def test_r7_15_what_the_alerts_want_of_the_broker_is_there(stack: RunningStack) -> None:
    """R7.15: the dead-letter queue by its name."""
    port = json.loads((stack.folder / "stack.json").read_text(encoding="utf-8"))["ports"][
        "rabbitmq-metrics"
    ]
    answer = httpx.get(
        f"http://127.0.0.1:{port}/metrics/detailed", params={"family": "queue_coarse_metrics"}
    )
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    queues = {
        sample.labels["queue"] for sample in families["rabbitmq_detailed_queue_messages"].samples
    }
    assert {"events.dlq", "admin.events.queue", "auth.events.retry.1"} <= queues
