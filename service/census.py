"""Jobs and workers as Prometheus counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.keyspace import StoreUnavailable
from worker.store import JobStore


@final
class Census(Collector):
    """Asks the store anew at every scrape, so that all API processes tell the same."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Whether the store answers, and if so its jobs and workers."""
        try:
            gauges = [_gauge("reinmax_store_up", "Whether the store answers.", 1), self._jobs(), self._workers()]
        except StoreUnavailable:
            gauges = [_gauge("reinmax_store_up", "Whether the store answers.", 0)]
        yield from gauges

    def _jobs(self) -> Metric:
        gauge = GaugeMetricFamily("reinmax_jobs", "Jobs by state.", labels=["status"])
        for status, count in self._store.counts().items():
            gauge.add_metric([status.value], count)
        return gauge

    def _workers(self) -> Metric:
        gauge = GaugeMetricFamily("reinmax_workers", "Live workers by device and work.", labels=["device", "busy"])
        living = Counter((worker.device, str(worker.job is not None).lower()) for worker in self._store.workers())
        for labels, count in living.items():
            gauge.add_metric(labels, count)
        return gauge


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
