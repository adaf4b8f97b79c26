"""What the deployment tests share: tools of the machine, and every series the proxy can expose."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.hot_keys import HotKeys
from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.values import (
    AuditResult,
    BypassReason,
    Digest,
    FenceResult,
    FillResult,
    Level,
    Mode,
    Outcome,
    ShadowResult,
    TableCheck,
    TableName,
)
from proxy.edge.clock import SystemClock
from proxy.edge.hot_metrics import HotMetrics
from proxy.edge.metrics import Metrics, MetricsIdentity
from proxy.edge.store_metrics import BREAKER_STATES
from proxy.edge.stream_metrics import StreamMetrics
from proxy.flow import events
from proxy.flow.hot_reads import HotReads
from proxy.flow.stream_reader import StreamStatus
from tests.support.tools import missing

DEPLOY = Path(__file__).parents[2] / "deploy"

Run = Callable[..., "subprocess.CompletedProcess[str]"]

Exposed = dict[str, dict[str, set[str]]]
"""Sample name to label name to the label values seen."""


def run_tool(name: str, *, install: str) -> Run:
    """Return a function that runs a tool of the machine; skip the test when it is missing."""
    path = shutil.which(name) or missing(name, install=install)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [path, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder of the deployment artefacts."""
    return DEPLOY


@pytest.fixture(scope="session")
def promtool() -> Run:
    """Prometheus' own checker."""
    return run_tool("promtool", install="apt-get install prometheus")


@pytest.fixture(scope="session")
def kubectl() -> Run:
    """The renderer of kustomizations."""
    return run_tool("kubectl", install="put kubectl 1.29 or later on the PATH")


def audit_events(table: TableName) -> Iterator[events.Event]:
    """Give those of audits, shadow and switched modes."""
    for audit_result in AuditResult:
        yield events.AuditEnded(table, audit_result)
    for shadow_result in ShadowResult:
        yield events.ShadowCompared(table, shadow_result)
    for mode in Mode:
        yield events.ModeSwitched(table, mode, 100.0)
    for in_shadow in (False, True):
        yield events.StaleFound(table, Level.SESSION, 1.0, "mark", in_shadow)


def stream_events(table: TableName) -> Iterator[events.Event]:
    """Give those of streams."""
    for result in RecordResult:
        yield events.StreamRecordsApplied(table, result, 1)
    for gap in GapReason:
        yield events.StreamGap(table, gap)
    for trouble in StreamTrouble:
        yield events.StreamTroubled(table, trouble)
    for poison in PoisonReason:
        yield events.StreamParked(table, poison, 1)
    yield events.StreamLagMoved(table, over=True)


def every_event() -> Iterator[events.Event]:
    """Give events that between them carry every member of every enum."""
    table = TableName("orders")
    for outcome in Outcome:
        yield events.RequestAnswered("GetItem", table, outcome, None, 200, 0.001)
        yield events.BatchItemsAnswered(table, outcome, 1)
    for reason in BypassReason:
        yield events.RequestAnswered("GetItem", table, Outcome.BYPASS, reason, 200, 0.001)
    for fill_result in FillResult:
        yield events.FillEnded(table, fill_result)
    for fence_result in FenceResult:
        yield events.FenceEnded(table, fence_result)
    for check in TableCheck:
        yield events.TableChecked(table, check)
    yield from audit_events(table)
    yield from stream_events(table)
    for upstream_failure in UpstreamFailure:
        yield events.UpstreamSilent("GetItem", table, upstream_failure)
    for store_failure in StoreFailure:
        yield events.StoreFailed("lookup", store_failure)
    for state in BREAKER_STATES:
        yield events.BreakerMoved(state)
    for replaced in (True, False):
        yield events.RefreshEnded(table, replaced=replaced)
    yield events.CapacitySaved(table, 1.0)
    yield events.CapacityConsumed(table, 1.0)
    yield events.UpstreamAnswered("GetItem", table, 400, throttled=True, elapsed_s=0.01)
    yield events.StoreAnswered("lookup", 0.0002)


@pytest.fixture(scope="session")
def exposed() -> Exposed:
    """Every sample the proxy can expose, after one event of each kind."""
    metrics = Metrics(MetricsIdentity("0.1.0", "3.11", "1", "abc", "session", "invalidate"))
    for event in every_event():
        metrics.on_event(event)
    hot = HotKeys()
    hot.count(TableName("orders"), Digest(b"item"), SystemClock().monotonic_s())
    HotMetrics(metrics.registry, HotReads(hot, clock=SystemClock()), metrics.label_of)
    status = StreamStatus("enabled", 1.0, over=False, shards=1, held=1, readers=1)
    StreamMetrics(metrics.registry, lambda: {TableName("orders"): status})
    found: Exposed = defaultdict(lambda: defaultdict(set))
    samples = itertools.chain.from_iterable(f.samples for f in metrics.registry.collect())
    for sample in samples:
        labels = found[sample.name]
        for name, text in sample.labels.items():
            labels[name].add(text)
    return {name: dict(labels) for name, labels in found.items()}
