"""Merges the metrics of several worker processes into one exposition, as if they were one.

`proxy.edge.fleet_ops` feeds it. Counters and histograms are summed, and what a worker has counted
stays in the sum after its end: a sum that fell would look to Prometheus like a restart of all
workers, whose whole counts it would then count again. What a worker counted between its last
scrape and a crash is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_OPENMETRICS: Final = "application/openmetrics-text"
_LASTING: Final = frozenset({"counter", "histogram"})

Combine = Callable[[float, float], float]
SampleKey = tuple[str, tuple[tuple[str, str], ...]]


def _add(one: float, other: float) -> float:
    return one + other


# Gauges that are no amounts: a sum of them would say nothing.
_RULES: Final[dict[str, Combine]] = {
    "dynaside_build_info": max,
    "dynaside_config_info": max,
    "dynaside_event_loop_lag_seconds": max,
    "dynaside_hot_key_share": max,
    "dynaside_store_breaker_state": max,
    "dynaside_store_flaw": max,
    "dynaside_store_evicted_keys": max,  # each worker reports the store's own count
    "dynaside_store_nodes_out": max,
    "dynaside_stream_degraded": max,
    "dynaside_stream_iterator_age_seconds": max,
    "dynaside_stream_lag_seconds": max,
    "dynaside_stream_readers": max,
    "dynaside_stream_shards": max,  # each worker sees all of them; those that it holds are its own
    "dynaside_store_serving": min,  # 0 as soon as one worker has no store: alerts watch for 0
    "process_max_fds": min,
    "process_start_time_seconds": min,
}
_BREAKER_CLOSED: Final[SampleKey] = ("dynaside_store_breaker_state", (("state", "closed"),))


@dataclass
class _Family:
    """One metric of one process, or of several."""

    kind: str
    meaning: str
    samples: dict[SampleKey, float] = field(default_factory=dict)


Families = dict[str, _Family]


class MergedMetrics:
    """The last metrics seen of each worker, the counts of those that ended, and our own.

    Args:
        slots: number of workers.
    """

    def __init__(self, slots: int) -> None:
        self._seen: dict[int, Families] = {}
        self._ended: Families = {}
        # As in `proxy.edge.metrics`: no `_created` series. The library has no types for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        Gauge("dynaside_workers", "Worker processes wanted.", registry=self._own).set(slots)
        self._ready = Gauge(
            "dynaside_workers_ready", "Worker processes that take requests.", registry=self._own
        )
        self._restarts = Counter(
            "dynaside_worker_restarts_total",
            "Worker processes that ended unasked and were replaced.",
            registry=self._own,
        )

    def observe_ready(self, read: Callable[[], int]) -> None:
        """Report `read()` as the number of workers that are ready, at each scrape."""
        self._ready.set_function(read)

    def saw(self, slot: int, text: str) -> None:
        """Take what a worker exposes now, in Prometheus' text format."""
        self._seen[slot] = _parse(text)

    def ended(self, slot: int) -> None:
        """Forget a worker that ended, but not what it has counted."""
        self._restarts.inc()
        families = self._seen.pop(slot, {})
        lasting = {name: each for name, each in families.items() if each.kind in _LASTING}
        self._ended = _merge([self._ended, lasting])

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics if `accept` names it, else text.

        A worker that did not answer the last time counts as it was when it last did.
        """
        own = _parse(generate_latest(self._own).decode())
        merged = _merge([*self._seen.values(), self._ended, own])
        wanted = f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in (accept or "") else ""
        encode, content_type = choose_encoder(wanted)
        return encode(_Merged(merged)), content_type


class _Merged(Collector):
    """Families in the shape that the library's encoders take."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.meaning, family.kind)
            for (sample_name, labels), amount in family.samples.items():
                metric.add_sample(sample_name, dict(labels), amount)
            yield metric


def _parse(text: str) -> Families:
    families: Families = {}
    for metric in text_string_to_metric_families(text):
        family = families[metric.name] = _Family(metric.type, metric.documentation)
        for sample in metric.samples:
            key = (sample.name, tuple(sample.labels.items()))
            family.samples[key] = sample.value
    return families


def _merge(sources: Iterable[Families]) -> Families:
    merged: Families = {}
    for families in sources:
        for name, family in families.items():
            into = merged.setdefault(name, _Family(family.kind, family.meaning))
            for key, amount in family.samples.items():
                before = into.samples.get(key)
                combine = min if key == _BREAKER_CLOSED else _RULES.get(name, _add)
                into.samples[key] = amount if before is None else combine(before, amount)
    return merged
