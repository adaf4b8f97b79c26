"""Claims of proxy.edge.metrics."""

from __future__ import annotations

import asyncio
import itertools
from typing import get_args

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.store_fitness import Flaw
from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.tally import LatencyTally
from proxy.core.values import (
    AuditResult,
    BypassReason,
    FenceResult,
    FillResult,
    Level,
    Mode,
    Outcome,
    ShadowResult,
    TableCheck,
    TableName,
    Token,
)
from proxy.edge.metrics import (
    ITEM_OPERATIONS,
    Metrics,
    MetricsIdentity,
)
from proxy.flow import events

IDENTITY = MetricsIdentity(
    version="0.1.0",
    python="3.11.2",
    record_format="1",
    config_digest="abc123",
    level_default="session",
    write_mode_default="invalidate",
)
ORDERS = TableName("orders")

HITS = LatencyTally()
for _elapsed_s in (0.00001, 0.00002, 0.003):
    HITS.add(_elapsed_s)

# One event of each type, and a sample that must be there after it.
MOVES: list[tuple[events.Event, str, dict[str, str], float]] = [
    (
        events.RequestAnswered("GetItem", ORDERS, Outcome.HIT, None, 200, 0.001),
        "dynaside_requests_total",
        {"operation": "GetItem", "table": "orders", "outcome": "hit"},
        1,
    ),
    (
        events.HitsAnswered(ORDERS, Outcome.NEGATIVE_HIT, 1.5, HITS),
        "dynaside_requests_total",
        {"operation": "GetItem", "table": "orders", "outcome": "negative_hit"},
        3,
    ),
    (
        events.BatchItemsAnswered(ORDERS, Outcome.NEGATIVE_HIT, 3),
        "dynaside_batch_items_total",
        {"table": "orders", "outcome": "negative_hit"},
        3,
    ),
    (
        events.CapacitySaved(ORDERS, 1.5),
        "dynaside_read_capacity_units_saved_total",
        {"table": "orders"},
        1.5,
    ),
    (
        events.CapacityConsumed(ORDERS, 0.5),
        "dynaside_read_capacity_units_consumed_total",
        {"table": "orders"},
        0.5,
    ),
    (
        events.FillEnded(ORDERS, FillResult.NO_LEASE),
        "dynaside_fills_total",
        {"table": "orders", "result": "no-lease"},
        1,
    ),
    (
        events.RefreshEnded(ORDERS, replaced=True),
        "dynaside_refreshes_total",
        {"table": "orders", "replaced": "true"},
        1,
    ),
    (
        events.AuditEnded(ORDERS, AuditResult.MATCH),
        "dynaside_audits_total",
        {"table": "orders", "result": "match"},
        1,
    ),
    (
        events.StaleFound(ORDERS, Level.SESSION, 0.5, "m", in_shadow=False),
        "dynaside_stale_age_seconds_count",
        {"found_by": "audit"},
        1,
    ),
    (
        events.ShadowCompared(ORDERS, ShadowResult.AGREE),
        "dynaside_shadow_reads_total",
        {"table": "orders", "result": "agree"},
        1,
    ),
    (
        events.ModeSwitched(ORDERS, Mode.SHADOW, 10.0),
        "dynaside_mode_switches_total",
        {"table": "orders", "mode": "shadow"},
        1,
    ),
    (
        events.StreamRecordsApplied(ORDERS, RecordResult.SAME, 2),
        "dynaside_stream_records_total",
        {"table": "orders", "result": "same"},
        2,
    ),
    (
        events.StreamGap(ORDERS, GapReason.TRIMMED),
        "dynaside_stream_gaps_total",
        {"table": "orders", "reason": "trimmed"},
        1,
    ),
    (
        events.StreamTroubled(ORDERS, StreamTrouble.DENIED),
        "dynaside_stream_troubles_total",
        {"table": "orders", "trouble": "denied"},
        1,
    ),
    (
        events.StreamParked(ORDERS, PoisonReason.NO_KEYS, 0),
        "dynaside_stream_parked_total",
        {"table": "orders", "reason": "no-keys"},
        1,
    ),
    (
        events.StreamLagMoved(ORDERS, over=True),
        "dynaside_stream_over_lag_total",
        {"table": "orders"},
        1,
    ),
    (
        events.FenceEnded(ORDERS, FenceResult.LOST),
        "dynaside_fence_ends_total",
        {"table": "orders", "result": "lost"},
        1,
    ),
    (
        events.TableChecked(ORDERS, TableCheck.REMADE),
        "dynaside_table_checks_total",
        {"table": "orders", "result": "remade"},
        1,
    ),
    (
        events.UpstreamAnswered("Query", ORDERS, 400, throttled=True, elapsed_s=0.02),
        "dynaside_upstream_throttles_total",
        {"operation": "Query", "table": "orders"},
        1,
    ),
    (
        events.UpstreamSilent("PutItem", ORDERS, UpstreamFailure.TIMEOUT),
        "dynaside_upstream_failures_total",
        {"operation": "PutItem", "failure": "timeout"},
        1,
    ),
    (
        events.StoreAnswered("lookup", 0.0002),
        "dynaside_store_duration_seconds_count",
        {"step": "lookup"},
        1,
    ),
    (
        events.StoreLookedUp(HITS),
        "dynaside_store_duration_seconds_count",
        {"step": "lookup"},
        HITS.count,
    ),
    (
        events.StoreFailed("fill", StoreFailure.REFUSED),
        "dynaside_store_failures_total",
        {"step": "fill", "failure": "refused"},
        1,
    ),
    (events.StoreServing(serving=True, why="open"), "dynaside_store_serving", {}, 1),
    (
        events.StoreFitness((Flaw.REPLICAS,), demanded=False),
        "dynaside_store_flaw",
        {"flaw": "replicas"},
        1,
    ),
    (
        events.StoreServing(serving=True, why="a node", nodes_out=1),
        "dynaside_store_nodes_out",
        {},
        1,
    ),
    (events.StoreConnections(3, 1), "dynaside_store_connections", {}, 3),
    (events.StoreEvictions(42), "dynaside_store_evicted_keys", {}, 42),
    (events.BreakerMoved("open"), "dynaside_store_breaker_state", {"state": "open"}, 1),
    (events.StoreDetour(), "dynaside_store_detours_total", {}, 1),
    (events.DebtsChanged(7), "dynaside_debts", {}, 7),
    (
        events.CredentialsChanged("sts", "no answer"),
        "dynaside_credentials_failures_total",
        {},
        1,
    ),
    (events.InvariantViolated("read_path"), "dynaside_invariant_violations_total", {}, 1),
]


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample's value, or None when there is no such series."""
    return metrics.registry.get_sample_value(name, labels)


def test_the_table_of_moves_covers_every_event() -> None:
    """No event type is missing from the table below."""
    assert {type(move[0]) for move in MOVES} == set(get_args(events.Event))


@pytest.mark.parametrize("move", MOVES, ids=lambda move: type(move[0]).__name__)
def test_every_event_moves_its_metric(
    move: tuple[events.Event, str, dict[str, str], float],
) -> None:
    """Each event type changes the metric that the alert rules and dashboards read."""
    event, name, labels, expected = move
    metrics = Metrics(IDENTITY)
    assert sample(metrics, name, **labels) in (None, 0)
    metrics.on_event(event)
    assert sample(metrics, name, **labels) == expected


def test_an_answered_request_is_counted_by_latency_and_status() -> None:
    """A request adds to its latency histogram and to its HTTP status."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(events.RequestAnswered("PutItem", ORDERS, Outcome.WRITE, None, 200, 0.003))
    name, labels = "dynaside_request_duration_seconds", {"operation": "PutItem", "outcome": "write"}
    assert sample(metrics, f"{name}_sum", **labels) == pytest.approx(0.003)
    assert sample(metrics, f"{name}_bucket", **labels, le="0.0025") == 0
    assert sample(metrics, f"{name}_bucket", **labels, le="0.005") == 1
    assert sample(metrics, "dynaside_http_responses_total", operation="PutItem", status="200") == 1


def test_hits_told_together_count_as_if_they_were_told_one_by_one() -> None:
    """Whoever sums them up is asked before each scrape, and every number is the same."""
    together, one_by_one = Metrics(IDENTITY), Metrics(IDENTITY)
    hits = events.HitsAnswered(ORDERS, Outcome.HIT, 1.5, HITS)
    together.ask(lambda: together.on_event(hits))
    for elapsed_s in (0.00001, 0.00002, 0.003):
        answered = events.RequestAnswered("GetItem", ORDERS, Outcome.HIT, None, 200, elapsed_s)
        one_by_one.on_event(answered)
        one_by_one.on_event(events.CapacitySaved(ORDERS, 0.5))
    first, second = (
        [line for line in made.exposition(None)[0].splitlines() if not line.startswith(b"process_")]
        for made in (together, one_by_one)
    )
    assert first == second


def test_an_upstream_answer_is_counted_by_latency_and_status_and_not_as_throttle() -> None:
    """An ordinary upstream answer moves duration and status, and no throttle."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(events.UpstreamAnswered("GetItem", None, 200, throttled=False, elapsed_s=0.01))
    assert sample(metrics, "dynaside_upstream_duration_seconds_count", operation="GetItem") == 1
    labels = {"operation": "GetItem", "status": "200"}
    assert sample(metrics, "dynaside_upstream_responses_total", **labels) == 1
    assert (
        sample(metrics, "dynaside_upstream_throttles_total", operation="GetItem", table="") is None
    )


def test_bypass_and_coalesced_have_totals_of_their_own() -> None:
    """A bypass is counted with its reason, a coalesced read with its table."""
    metrics = Metrics(IDENTITY)
    reason = BypassReason.TABLE_OFF
    metrics.on_event(events.RequestAnswered("GetItem", ORDERS, Outcome.BYPASS, reason, 200, 0.0))
    metrics.on_event(events.RequestAnswered("GetItem", ORDERS, Outcome.COALESCED, None, 200, 0.0))
    assert sample(metrics, "dynaside_bypasses_total", table="orders", reason="table-off") == 1
    assert sample(metrics, "dynaside_coalesced_total", table="orders") == 1


def test_a_request_without_a_table_has_an_empty_table_label() -> None:
    """Prometheus reads an empty label as no label: no table is invented."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(events.RequestAnswered("ListTables", None, Outcome.BYPASS, None, 200, 0.0))
    labels = {"operation": "ListTables", "table": "", "outcome": "bypass"}
    assert sample(metrics, "dynaside_requests_total", **labels) == 1


def test_unknown_operations_share_one_label() -> None:
    """A client cannot make series by inventing operation names."""
    metrics = Metrics(IDENTITY)
    for number in range(50):
        metrics.on_event(
            events.RequestAnswered(f"Op{number}", None, Outcome.REJECTED, None, 400, 0.0)
        )
    labels = {"operation": "other", "table": "", "outcome": "rejected"}
    assert sample(metrics, "dynaside_requests_total", **labels) == 50


@pytest.mark.parametrize("operation", ["GetItem", "UpdateTimeToLive", "GetRecords"])
def test_known_operations_have_labels_of_their_own(operation: str) -> None:
    """Every operation of the catalogue is told from the others."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(events.RequestAnswered(operation, None, Outcome.BYPASS, None, 200, 0.0))
    labels = {"operation": operation, "table": "", "outcome": "bypass"}
    assert sample(metrics, "dynaside_requests_total", **labels) == 1


def test_tables_beyond_the_bound_share_one_label() -> None:
    """With room for two, a configured and one seen table keep their names; the third is other."""
    metrics = Metrics(IDENTITY, tables=["orders"], tables_max=2)
    for table in ("users", "logs", "orders", "logs"):
        metrics.on_event(events.CapacitySaved(TableName(table), 1.0))
    name = "dynaside_read_capacity_units_saved_total"
    assert sample(metrics, name, table="orders") == 1
    assert sample(metrics, name, table="users") == 1
    assert sample(metrics, name, table="logs") is None
    assert sample(metrics, name, table="other") == 2
    assert [metrics.label_of(table) for table in ("users", "logs")] == ["users", "other"]


def test_series_that_alerts_watch_start_at_zero() -> None:
    """`rate()` needs a first sample of 0: alert series exist before anything went wrong."""
    metrics = Metrics(IDENTITY, tables=["orders"])
    for result in FenceResult:
        assert sample(metrics, "dynaside_fence_ends_total", table="orders", result=result) == 0
    for check in TableCheck:
        assert sample(metrics, "dynaside_table_checks_total", table="orders", result=check) == 0
    for operation, failure in itertools.product((*ITEM_OPERATIONS, "other"), UpstreamFailure):
        labels = {"operation": operation, "failure": failure.value}
        assert sample(metrics, "dynaside_upstream_failures_total", **labels) == 0
    for operation in ITEM_OPERATIONS:
        labels = {"operation": operation, "table": "orders"}
        assert sample(metrics, "dynaside_upstream_throttles_total", **labels) == 0
    for name in ("credentials_failures_total", "invariant_violations_total", "debts"):
        assert sample(metrics, f"dynaside_{name}") == 0


def test_loaded_credentials_are_no_failure() -> None:
    """Only a problem counts; a rotation does not."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(events.CredentialsChanged("environment", None))
    assert sample(metrics, "dynaside_credentials_failures_total") == 0


def test_a_store_connection_just_made_is_counted() -> None:
    """The gauge follows the number open now, the counter only those just made."""
    metrics = Metrics(IDENTITY)
    for open_now, opened in ((1, 1), (2, 1), (1, 0)):
        metrics.on_event(events.StoreConnections(open_now, opened))
    assert sample(metrics, "dynaside_store_connections") == 1
    assert sample(metrics, "dynaside_store_connects_total") == 2


def test_requests_in_flight_are_read_at_the_scrape() -> None:
    """The gauge asks its source each time, so that no request pays for it."""
    metrics = Metrics(IDENTITY)
    in_flight = [3]
    metrics.observe_in_flight(lambda: in_flight[0])
    assert sample(metrics, "dynaside_in_flight_requests") == 3
    in_flight[0] = 5
    assert sample(metrics, "dynaside_in_flight_requests") == 5


def test_identity_is_exposed() -> None:
    """Build and configuration are labels of two series that are always 1."""
    metrics = Metrics(IDENTITY)
    build = {"version": "0.1.0", "python": "3.11.2", "record_format": "1"}
    assert sample(metrics, "dynaside_build_info", **build) == 1
    config = {"digest": "abc123", "level_default": "session", "write_mode_default": "invalidate"}
    assert sample(metrics, "dynaside_config_info", **config) == 1


@pytest.mark.parametrize(
    "accept", [None, "", "text/plain", "*/*", "application/json;version=x", "text/plain;version=y"]
)
def test_text_format_is_the_default(accept: str | None) -> None:
    """Whatever does not ask for OpenMetrics gets the classic text format."""
    body, content_type = Metrics(IDENTITY).exposition(accept)
    assert content_type.startswith("text/plain")
    assert b"# EOF" not in body
    assert b"process_resident_memory_bytes" in body


@pytest.mark.parametrize(
    "version", ["; version=1.0.0", "; version=0.0.1,text/plain;q=0.5", "; version=x"]
)
def test_openmetrics_is_given_when_asked_for(version: str) -> None:
    """A scrape that names OpenMetrics gets it, parseable, however its version is spelled."""
    metrics = Metrics(IDENTITY)
    for move in MOVES:
        metrics.on_event(move[0])
    body, content_type = metrics.exposition(f"application/openmetrics-text{version}")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"dynaside_requests", "dynaside_store_duration_seconds"} <= names


def test_no_created_series_are_exposed() -> None:
    """Nobody reads `_created`; without it a scrape has half as many series."""
    metrics = Metrics(IDENTITY)
    metrics.on_event(MOVES[0][0])
    assert b"_created" not in metrics.exposition(None)[0]


class LateClock:
    """A clock whose sleeps take the given time longer than asked, then end by cancellation."""

    def __init__(self, *late_s: float) -> None:
        self._now_s = 0.0
        self._late_s = list(late_s)

    def monotonic_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._now_s

    async def sleep(self, delay_s: float) -> None:
        if not self._late_s:
            raise asyncio.CancelledError
        self._now_s += delay_s + self._late_s.pop(0)

    def uniform(self, low: float, high: float) -> float:
        return low

    def token(self) -> Token:
        return Token(bytes(16))


async def test_loop_lag_is_the_worst_of_the_last_minute() -> None:
    """One late wake-up shows for a minute, then a calm loop shows none."""
    metrics = Metrics(IDENTITY)
    with pytest.raises(asyncio.CancelledError):
        await metrics.watch_loop_lag(LateClock(0.25, 0.0))
    assert sample(metrics, "dynaside_event_loop_lag_seconds") == 0.25
    with pytest.raises(asyncio.CancelledError):
        await metrics.watch_loop_lag(LateClock(*[0.0] * 60))
    assert sample(metrics, "dynaside_event_loop_lag_seconds") == 0


def test_made_up_names_take_no_room() -> None:
    """What counts requests is kept for known names only: clients may send any others."""
    metrics = Metrics(IDENTITY, tables_max=1)
    for number in range(10):
        for operation, table in ((f"Op{number}", None), ("GetItem", TableName(f"t{number}"))):
            for _ in range(2):
                event = events.RequestAnswered(operation, table, Outcome.MISS, None, 200, 0.0)
                metrics.on_event(event)
                metrics.on_event(
                    events.UpstreamAnswered(operation, table, 200, throttled=False, elapsed_s=0.0)
                )
    assert len(metrics._answered) == len(metrics._upstream_answered) == 1
    labels = {"operation": "other", "status": "200"}
    assert sample(metrics, "dynaside_upstream_responses_total", **labels) == 20
    total = metrics.registry.get_sample_value(
        "dynaside_requests_total", {"operation": "GetItem", "table": "other", "outcome": "miss"}
    )
    assert total == 18
