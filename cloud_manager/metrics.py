"""What the manager counts, as Prometheus reads it: `GET /metrics`.

No name of a project is in it, so that its size does not grow with them; what is counted per project is kept up to date
on the board, so that a scrape reads no database. https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from cloud_manager.board import Board

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUICK = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Seconds."""
_SLOW = (0.005, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0)


class Metrics:
    """One per process. Implements `watch.Watch` and `request_log.Observe`. Used on the event loop."""

    def __init__(self) -> None:
        self._all = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "cloud_deploy_http_requests",
            "Requests answered, besides those in cloud_deploy_status_words.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._answers = Histogram(
            "cloud_deploy_http_seconds", "Until the answer began.", ("route",), buckets=_QUICK, registry=registry
        )
        self._steps = Histogram(
            "cloud_deploy_reconcile_seconds",
            "Steps of the controller; overtaken: by a newer wish, lost: to another manager, cut: broken off.",
            ("outcome",),
            buckets=_SLOW,
            registry=registry,
        )
        self._late = Histogram(
            "cloud_deploy_reconcile_late_seconds",
            "How long after they were due steps began.",
            buckets=_SLOW,
            registry=registry,
        )
        self._problems = Counter(
            "cloud_deploy_problems",
            "Problems that steps ran into, by code; with final=no they are tried again.",
            ("code", "final"),
            registry=registry,
        )
        self._store = Histogram(
            "cloud_deploy_store_seconds",
            "Calls of the database, by result: ok, or the code of the error.",
            ("call", "result"),
            buckets=_QUICK,
            registry=registry,
        )
        self._calls = Counter(
            "cloud_deploy_cloud_calls",
            "Calls of Google Cloud and of the Docker Engine, by result: ok, or the code of the error.",
            ("cloud", "method", "result"),
            registry=registry,
        )

    def show(self, board: Board) -> None:
        self._all.register(_Deployments(board))

    def show_words(self, answered: Callable[[], int]) -> None:
        """answered: how many status requests `StatusWords` has answered."""
        self._all.register(_Words(answered))

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(route).observe(seconds)

    def step(self, outcome: str, seconds: float, late: float) -> None:
        self._steps.labels(outcome).observe(seconds)
        self._late.observe(late)

    def problem(self, code: str, *, final: bool) -> None:
        self._problems.labels(code, "yes" if final else "no").inc()

    def store_call(self, call: str, result: str, seconds: float) -> None:
        self._store.labels(call, result).observe(seconds)

    def cloud_call(self, cloud: str, method: str, result: str) -> None:
        """method: one of a fixed set, without the name of what it is about."""
        self._calls.labels(cloud, method, result).inc()

    def text(self) -> bytes:
        """https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""
        return generate_latest(self._all)


class _Deployments(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "cloud_deploy_deployments", "Projects, by status word and deploy.type.", labels=("phase", "target")
        )
        for (phase, target), count in sorted(self._board.counts().items()):
            found.add_metric((phase, target), count)
        yield found


class _Words(Collector):
    def __init__(self, answered: Callable[[], int]) -> None:
        self._answered = answered

    def collect(self) -> Iterator[Metric]:
        name, about = "cloud_deploy_status_words", "Requests for /status_request that were answered from memory."
        yield CounterMetricFamily(name, about, value=self._answered())
