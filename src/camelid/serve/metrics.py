"""What /metrics tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from camelid.infer.request import EngineStats
from camelid.serve.choices import Delta
from camelid.serve.served_model import AnyEngine

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTERS = {
    "num_finished": "requests answered to their end",
    "num_cancelled": "requests whose client left",
    "num_preempted": "times a sequence had to give its pages to another",
    "prompt_tokens": "prompt tokens computed",
    "cached_prompt_tokens": "prompt tokens known from earlier requests",
    "generated_tokens": "tokens generated",
    "guessed_tokens": "tokens guessed by the draft",
    "accepted_tokens": "tokens guessed as the model chose",
}
GAUGES = {
    "num_waiting": "requests that wait",
    "num_running": "requests that run",
    "pages_free": "free pages of keys and values",
    "pages_total": "pages of keys and values",
    "pages_known": "free pages that still know the beginning of an earlier prompt",
}


class Metrics:
    """One server's numbers; several servers in a process do not share them."""

    def __init__(self) -> None:
        self.engine: AnyEngine | None = None  # known once it is loaded
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(self))
        ProcessCollector(registry=self._registry)  # memory, threads' time, open files; Linux only
        self.open_requests = Gauge(
            "camelid_open_requests", "Requests below /v1/ without a whole answer", registry=self._registry
        )
        self.stalled = Counter(
            "camelid_stalled_readers", "Requests ended because nobody read on", registry=self._registry
        )
        self.requests = Counter(
            "camelid_http_requests",
            "Answers by route and status",
            ["route", "status"],
            registry=self._registry,
        )
        self._first = Histogram(
            "camelid_time_to_first_token_seconds",
            "From the request on",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._between = Histogram(
            "camelid_time_between_tokens_seconds", "Of one choice", buckets=SECONDS, registry=self._registry
        )

    async def timed(self, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[Delta]:
        """The same deltas; their times are noted."""
        before: dict[int, float] = {}
        began = time.perf_counter()
        async with aclosing(deltas):
            async for delta in deltas:
                now = time.perf_counter()
                if delta.index in before:
                    self._between.observe(now - before[delta.index])
                else:
                    self._first.observe(now - began)
                before[delta.index] = now
                yield delta

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        if self._metrics.engine is None:
            return
        stats: EngineStats = self._metrics.engine.stats
        for name, help_text in COUNTERS.items():
            yield CounterMetricFamily(f"camelid_{name.removeprefix('num_')}", help_text, getattr(stats, name))
        for name, help_text in GAUGES.items():
            yield GaugeMetricFamily(f"camelid_{name.removeprefix('num_')}", help_text, getattr(stats, name))
