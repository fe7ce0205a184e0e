"""What the builder counts, as Prometheus reads it: `GET /metrics`.

Nobody's name is in it. What it shows is in memory: a scrape reads neither the disk nor a registry.
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from image_builder.build_queue import BuildQueue
from image_builder.cache_keeper import CacheKeeper
from image_builder.contract import BuildState, BuildStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUICK = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Seconds."""
_SLOW = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1200.0)

Connect = Callable[[Mapping[str, str]], httpx.AsyncClient]


class Metrics:
    """One per process. Implements `request_log.Observe`. Used on the event loop."""

    def __init__(self) -> None:
        self._all = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "image_builder_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._answers = Histogram(
            "image_builder_http_seconds", "Until the answer began.", ("route",), buckets=_QUICK, registry=registry
        )
        self._ended = Counter("image_builder_builds_ended", "Builds, by how they ended.", ("state",), registry=registry)
        self._failed = Counter(
            "image_builder_builds_failed", "Builds that failed, by code of the problem.", ("code",), registry=registry
        )
        self._steps = Histogram(
            "image_builder_step_seconds", "Steps of builds.", ("step",), buckets=_SLOW, registry=registry
        )
        self._bytes = Counter(
            "image_builder_layer_bytes",
            "Of layers, compressed: built, reused, mounted, uploaded; of wheels: fetched.",
            ("how",),
            registry=registry,
        )
        self._registry_requests = Counter(
            "image_builder_registry_requests", "Sent to registries.", ("method",), registry=registry
        )
        self._registry_answers = Counter(
            "image_builder_registry_answers",
            "Of registries; those of requests that were not answered are missing.",
            ("method", "status"),
            registry=registry,
        )

    def show(self, queue: BuildQueue, keeper: CacheKeeper) -> None:
        self._all.register(_Present(queue, keeper))

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(route).observe(seconds)

    def build_ended(self, status: BuildStatus) -> None:
        self._ended.labels(str(status.state)).inc()
        if status.state is BuildState.FAILED and status.problem:
            self._failed.labels(status.problem.code).inc()
        if status.summary is None:
            return
        for step, seconds in status.summary.steps.items():
            self._steps.labels(step).observe(seconds)
        for how in ("fetched", "built", "reused", "mounted", "uploaded"):
            self._bytes.labels(how).inc(getattr(status.summary, how))

    def counting(self, connect: Connect) -> Connect:
        """As `connect`, whose clients are counted. No name of a registry or an image is kept."""

        async def sent(request: httpx.Request) -> None:
            self._registry_requests.labels(request.method).inc()

        async def answered(response: httpx.Response) -> None:
            self._registry_answers.labels(response.request.method, str(response.status_code)).inc()

        def connected(environ: Mapping[str, str]) -> httpx.AsyncClient:
            client = connect(environ)
            client.event_hooks = {"request": [sent], "response": [answered]}
            return client

        return connected

    def text(self) -> bytes:
        """https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""
        return generate_latest(self._all)


class _Present(Collector):
    """How it is now."""

    def __init__(self, queue: BuildQueue, keeper: CacheKeeper) -> None:
        self._queue = queue
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        builds = GaugeMetricFamily("image_builder_builds", "Builds that are remembered, by state.", labels=("state",))
        for state, count in sorted(self._queue.counts().items()):
            builds.add_metric((state,), count)
        yield builds
        waiting = self._queue.count(BuildState.QUEUED)
        yield GaugeMetricFamily("image_builder_queue_depth", "Builds that wait for a place.", value=waiting)
        if self._keeper.size is not None:
            about = "On the disk, when the cache was last cleared: at the start and after each build."
            yield GaugeMetricFamily("image_builder_cache_bytes", about, value=self._keeper.size)
