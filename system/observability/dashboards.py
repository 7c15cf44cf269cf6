"""Draws the two Grafana dashboards from tables of panels (R7.15).

`python -m system.observability dashboards` writes them below grafana/dashboards/; a test holds the
files to what this module says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

_WIDTH: Final = 12
_HEIGHT: Final = 8
_RATE: Final = "[5m]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        title: what it shows.
        unit: Grafana's name of it: s, reqps, short, percentunit, ops.
        queries: PromQL and legend.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _rate(metric: str, *labels: str, where: str = "") -> str:
    chosen = f"{{{where}}}" if where else ""
    return f"sum by ({', '.join(labels)}) (rate({metric}{chosen}{_RATE}))"


def _percentiles(metric: str, where: str = "", *labels: str) -> tuple[tuple[str, str], ...]:
    chosen = f"{{{where}}}" if where else ""
    by = ", ".join((*labels, "le"))
    shown = " ".join(f"{{{{{label}}}}}" for label in labels)
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{chosen}{_RATE})))",
            f"p{int(share * 100)} {shown}".strip(),
        )
        for share in (0.5, 0.95, 0.99)
    )


_GATEWAY: Final = 'job="api-gateway"'

GATEWAY: Final = (
    Panel(
        "Requests by status",
        "reqps",
        ((_rate("http_requests_total", "status", where=_GATEWAY), "{{status}}"),),
    ),
    Panel("Request duration", "s", _percentiles("http_request_duration_seconds", _GATEWAY)),
    Panel(
        "Share of answers from 500 on",
        "percentunit",
        (
            (
                f'(sum(rate(http_errors_total{{{_GATEWAY}, status=~"5.."}}{_RATE})) or vector(0))'
                f" / sum(rate(http_requests_total{{{_GATEWAY}}}{_RATE}))",
                "failing",
            ),
        ),
    ),
    Panel(
        "Busiest routes",
        "reqps",
        (
            (
                f"topk(10, {_rate('http_requests_total', 'method', 'path', where=_GATEWAY)})",
                "{{method}} {{path}}",
            ),
        ),
    ),
    Panel(
        "Slowest routes, p95",
        "s",
        (
            (
                "topk(10, histogram_quantile(0.95, sum by (path, le) "
                f"(rate(http_request_duration_seconds_bucket{{{_GATEWAY}}}{_RATE}))))",
                "{{path}}",
            ),
        ),
    ),
    Panel(
        "Requests in flight", "short", ((f"http_active_connections{{{_GATEWAY}}}", "in flight"),)
    ),
    Panel("WebSocket connections", "short", (("sum(websocket_connections)", "open"),)),
    Panel(
        "WebSocket messages",
        "ops",
        ((_rate("websocket_messages_total", "direction", "type"), "{{direction}} {{type}}"),),
    ),
    Panel(
        "WebSocket closes and refusals",
        "ops",
        (
            (_rate("websocket_closed_total", "code"), "closed {{code}}"),
            (_rate("websocket_rejected_total", "code"), "refused {{code}}"),
        ),
    ),
    Panel(
        "Refused by a limiter",
        "ops",
        ((_rate("rate_limit_rejections_total", "limiter"), "{{limiter}}"),),
    ),
    Panel(
        "Event loop lag",
        "s",
        _percentiles("event_loop_lag_seconds", _GATEWAY),
    ),
)

SERVICES: Final = (
    Panel("Targets up", "short", (("up", "{{job}}"),)),
    Panel("Requests", "reqps", ((_rate("http_requests_total", "job"), "{{job}}"),)),
    Panel(
        "Request duration, p95",
        "s",
        _percentiles("http_request_duration_seconds", "", "job")[1:2],
    ),
    Panel(
        "Errors", "reqps", ((_rate("http_errors_total", "job", "status"), "{{job}} {{status}}"),)
    ),
    Panel(
        "Database statements, p95",
        "s",
        _percentiles("db_query_duration_seconds", "", "job", "operation", "table")[1:2],
    ),
    Panel(
        "Database errors",
        "ops",
        (
            (
                _rate("db_query_errors_total", "job", "operation", "table"),
                "{{job}} {{operation}} {{table}}",
            ),
        ),
    ),
    Panel(
        "Cache hit rate",
        "percentunit",
        (
            (
                f"{_rate('cache_hits_total', 'job', 'cache_type')} / ("
                f"{_rate('cache_hits_total', 'job', 'cache_type')} + "
                f"{_rate('cache_misses_total', 'job', 'cache_type')})",
                "{{job}} {{cache_type}}",
            ),
        ),
    ),
    Panel(
        "Cache operations, p95",
        "s",
        _percentiles("cache_operations_duration_seconds", "", "operation")[1:2],
    ),
    Panel(
        "Payments created",
        "ops",
        ((_rate("payments_created_total", "type", "status"), "{{type}} {{status}}"),),
    ),
    Panel(
        "Amount of payments per second",
        "short",
        ((_rate("payments_amount_total", "currency"), "{{currency}}"),),
    ),
    Panel(
        "Logins and registrations",
        "ops",
        (
            (_rate("auth_login_total", "status"), "login {{status}}"),
            (_rate("auth_register_total", "status"), "registration {{status}}"),
        ),
    ),
    Panel(
        "Events published",
        "ops",
        ((_rate("events_published_total", "job", "type"), "{{type}}"),),
    ),
    Panel(
        "Events consumed",
        "ops",
        ((_rate("events_consumed_total", "queue", "outcome"), "{{queue}} {{outcome}}"),),
    ),
    Panel(
        "Event delivery, p95",
        "s",
        _percentiles("event_delivery_latency_seconds", "", "queue")[1:2],
    ),
    Panel(
        "Event handling, p95",
        "s",
        _percentiles("event_handling_duration_seconds", "", "queue")[1:2],
    ),
    Panel("Events not yet published", "short", (("outbox_pending", "{{job}}"),)),
    Panel(
        "Messages in queues",
        "short",
        (("rabbitmq_detailed_queue_messages", "{{queue}}"),),
    ),
    Panel("Memory", "bytes", (("process_resident_memory_bytes", "{{job}}"),)),
    Panel("CPU", "percentunit", ((f"rate(process_cpu_seconds_total{_RATE})", "{{job}}"),)),
)


def document(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """A dashboard as Grafana reads it: two panels in a row."""
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["platform"],
        "timezone": "utc",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "gridPos": {
                    "x": number % 2 * _WIDTH,
                    "y": number // 2 * _HEIGHT,
                    "w": _WIDTH,
                    "h": _HEIGHT,
                },
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {
                        "refId": "ABCDEFGH"[place],
                        "datasource": source,
                        "expr": query,
                        "legendFormat": legend,
                    }
                    for place, (query, legend) in enumerate(panel.queries)
                ],
            }
            for number, panel in enumerate(panels)
        ],
    }


def files() -> dict[str, str]:
    """The text of each file below grafana/dashboards/."""
    made = {
        "api-gateway.json": document("api-gateway", "API Gateway Dashboard", GATEWAY),
        "services-overview.json": document("services-overview", "Services Overview", SERVICES),
    }
    return {name: json.dumps(content, indent=2) + "\n" for name, content in made.items()}
