"""Claims of proxy.edge.count_metrics: shown as the library shows its own counters."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open

from proxy.core.values import Outcome
from proxy.edge.count_metrics import Counts


def test_it_is_shown_as_the_librarys() -> None:
    """Both formats, byte for byte, series at 0 included; creation times are left out."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    about = "dynaside_x_total", "Meaning.", ("operation", "outcome")
    counts = Counts(ours, *about).counts
    counter = Counter(*about, registry=theirs)
    for operation, amount in (("GetItem", 1.0), ("Query", 2.5), ("GetItem", 3.0), ("Scan", 0.0)):
        counts[operation, Outcome.HIT].inc(amount)
        counter.labels(operation, Outcome.HIT).inc(amount)
    counts["GetItem", Outcome.HIT].inc()
    counter.labels("GetItem", Outcome.HIT).inc()
    for encode in (generate_latest, generate_open):
        expected = b"\n".join(
            line for line in encode(theirs).split(b"\n") if b"_created" not in line
        )
        assert encode(ours) == expected
