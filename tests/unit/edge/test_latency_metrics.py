"""Claims of proxy.edge.latency_metrics: shown as the library shows its own histograms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open

from proxy.core.tally import LATENCY_BOUNDS_S
from proxy.edge.latency_metrics import Latencies

SECONDS = (0.0, 0.00005, 0.00006, 0.3, 10.0, 11.0)


def test_it_is_shown_as_the_librarys() -> None:
    """Both formats, byte for byte; the library's own name for it keeps working in every query."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    about = "dynaside_x_seconds", "Meaning.", ("operation", "outcome")
    tallies = Latencies(ours, *about).tallies
    histogram = Histogram(*about, buckets=LATENCY_BOUNDS_S, registry=theirs)
    for outcome in ("hit", "miss"):
        for elapsed_s in SECONDS:
            tallies["GetItem", outcome].add(elapsed_s)
            histogram.labels("GetItem", outcome).observe(elapsed_s)
    for encode in (generate_latest, generate_open):
        expected = b"\n".join(
            line for line in encode(theirs).split(b"\n") if b"_created" not in line
        )
        assert encode(ours) == expected
