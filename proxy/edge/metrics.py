"""Turns events into Prometheus metrics; subscribed by `proxy.app`, read by the ops server.

Names, label names and label members are a contract with `deploy/prometheus` and `deploy/grafana`.
Every label is bounded: enums, known operations, and at most `tables_max` table names. Nothing here
sees a cache key, a primary key or an item.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from proxy.core.catalogue import OPERATIONS
from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.tally import LatencyTally
from proxy.core.values import FenceResult, FillResult, Outcome, TableCheck
from proxy.edge.audit_metrics import AuditMetrics
from proxy.edge.count_metrics import Count, Counts
from proxy.edge.latency_metrics import Latencies
from proxy.edge.store_metrics import StoreMetrics
from proxy.edge.stream_metrics import StreamEventMetrics
from proxy.flow import events
from proxy.flow.ports import Clock

OTHER: Final = "other"
"""Label for every operation we do not know and every table beyond the bound."""

ITEM_OPERATIONS: Final = ("GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem")

STORE_STEPS: Final = (
    *("lookup", "lease", "fill", "release", "begin", "end"),
    *("invalidate", "begin_table", "end_table", "generation"),
    *("lookup_page", "begin_scope", "end_scope"),
    *("claim_check", "identify_table"),
)
"""The steps that `proxy.flow.guarded_store` reports."""


LAG_SAMPLES: Final = 60
_OK: Final = 200

_OPENMETRICS: Final = "application/openmetrics-text"

_Counted = tuple[LatencyTally, tuple[Count, ...]]
"""What takes the seconds of an event, and what goes up by one with it."""


@dataclass(frozen=True, slots=True)
class MetricsIdentity:
    """What `dynaside_build_info` and `dynaside_config_info` say of this process; no secrets.

    Args:
        version: the proxy's version.
        python: the interpreter's version.
        record_format: version of the records in the store.
        config_digest: short digest of the effective settings, to see who runs with which.
        level_default: coherence level of tables not configured.
        write_mode_default: write mode of tables not configured.
    """

    version: str
    python: str
    record_format: str
    config_digest: str
    level_default: str
    write_mode_default: str


class Metrics:
    """Count every event in a registry of its own.

    Args:
        identity: labels of the two info metrics.
        tables: configured tables; they take their label first and their series start at 0.
        tables_max: how many table names may become labels, ≥ 0; all others are `other`.
    """

    def __init__(
        self, identity: MetricsIdentity, *, tables: Iterable[str] = (), tables_max: int = 100
    ) -> None:
        # A `_created` series beside each counter would double the exposition for no reader.
        # The library has no types for this one function.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._tables: dict[str | None, str] = {None: ""}
        self._tables_max = tables_max
        # By what is the same in many events: all but the seconds, operation and status.
        self._answered: dict[tuple[object, ...], _Counted] = {}
        self._upstream_answered: dict[tuple[str, int], _Counted] = {}
        self._lags_s: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._tellers: list[Callable[[], None]] = []
        self._make_request_families()
        self._make_coherence_families()
        self._audits = AuditMetrics(self.registry, self._table)
        self._store = StoreMetrics(self.registry)
        self.streams = StreamEventMetrics(self.registry, self._table)
        self._make_upstream_families()
        self._make_store_families()
        self._make_process_families(identity)
        self._handlers = self._handler_table()
        for table in tables:
            self._table(table)

    def on_event(self, event: events.Event) -> None:
        """Count one event; never raises for a member of `Event`, never blocks."""
        self._handlers[type(event)](event)

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics if `accept` names it, else text.

        Only the media type counts: the library's own parser raises on a malformed version.
        """
        for tell in self._tellers:
            tell()
        wanted = f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in (accept or "") else ""
        encode, content_type = choose_encoder(wanted)
        return encode(self.registry), content_type

    def ask(self, *tellers: Callable[[], None]) -> None:
        """Call these before each scrape: they emit what was only summed up so far."""
        self._tellers += tellers

    def label_of(self, table: str) -> str:
        """Return a table's label, admitting a new name while there is room."""
        return self._table(table)

    def observe_in_flight(self, read: Callable[[], int]) -> None:
        """Report `read()` as the number of requests in flight, at each scrape."""
        self._in_flight.set_function(read)

    async def watch_loop_lag(self, clock: Clock, period_s: float = 1.0) -> None:
        """Report how late the event loop wakes us: the worst of the last 60 periods; never ends."""
        while True:
            before_s = clock.monotonic_s()
            await clock.sleep(period_s)
            self._lags_s.append(max(0.0, clock.monotonic_s() - before_s - period_s))
            self._loop_lag.set(max(self._lags_s))

    # --- families --------------------------------------------------------------------------

    def _counter(
        self, name: str, meaning: str, *labels: str
    ) -> defaultdict[tuple[object, ...], Count]:
        return Counts(self.registry, f"dynaside_{name}", meaning, labels).counts

    def _histogram(
        self, name: str, meaning: str, *labels: str
    ) -> defaultdict[tuple[str, ...], LatencyTally]:
        return Latencies(self.registry, f"dynaside_{name}", meaning, labels).tallies

    def _total(self, name: str, meaning: str) -> Counter:
        return Counter(f"dynaside_{name}", meaning, registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"dynaside_{name}", meaning, registry=self.registry)

    def _info(self, name: str, meaning: str, **labels: str) -> None:
        info = Gauge(f"dynaside_{name}", meaning, tuple(labels), registry=self.registry)
        info.labels(*labels.values()).set(1)

    def _make_request_families(self) -> None:
        self._requests = self._counter(
            "requests_total", "Requests by how they were answered.", "operation", "table", "outcome"
        )
        self._bypasses = self._counter(
            "bypasses_total", "Requests in which the store had no part.", "table", "reason"
        )
        self._request_s = self._histogram(
            "request_duration_seconds",
            "From the complete request to the complete answer.",
            *("operation", "outcome"),
        )
        self._http = self._counter(
            "http_responses_total", "Answers by HTTP status.", "operation", "status"
        )
        self._coalesced = self._counter(
            "coalesced_total", "Reads that joined another reader's fetch.", "table"
        )
        self._batch_items = self._counter(
            "batch_items_total",
            "Items of BatchGetItem by how they were answered.",
            *("table", "outcome"),
        )
        self._units_saved = self._counter(
            "read_capacity_units_saved_total", "Read capacity not spent, thanks to hits.", "table"
        )
        self._units_consumed = self._counter(
            "read_capacity_units_consumed_total", "Read capacity spent by reads.", "table"
        )

    def _make_coherence_families(self) -> None:
        self._fills = self._counter(
            "fills_total", "Fetched items offered to the store.", "table", "result"
        )
        self._refreshes = self._counter(
            "refreshes_total", "Refreshes in the background that ended.", "table", "replaced"
        )
        self._fence_ends = self._counter(
            "fence_ends_total", "End steps of writes, per record.", "table", "result"
        )
        self._table_checks = self._counter(
            "table_checks_total", "Checks of which table a name stands for.", "table", "result"
        )
        self._debts = self._gauge("debts", "Writes whose effect on the store is still owed.")

    def _make_upstream_families(self) -> None:
        self._upstream_s = self._histogram(
            "upstream_duration_seconds", "Complete exchanges with DynamoDB.", "operation"
        )
        self._upstream_responses = self._counter(
            "upstream_responses_total", "Answers of DynamoDB.", "operation", "status"
        )
        self._throttles = self._counter(
            "upstream_throttles_total", "Throttling errors of DynamoDB.", "operation", "table"
        )
        self._upstream_failures = self._counter(
            "upstream_failures_total", "No complete answer from DynamoDB.", "operation", "failure"
        )
        for operation in (*ITEM_OPERATIONS, OTHER):
            for failure in UpstreamFailure:
                self._upstream_failures[operation, failure].inc(0)
        self._credentials_failures = self._total(
            "credentials_failures_total", "Credentials could not be loaded or refreshed."
        )

    def _make_store_families(self) -> None:
        self._store_s = self._histogram(
            "store_duration_seconds", "Round trips to the store.", "step"
        )
        self._store_failures = self._counter(
            "store_failures_total", "Steps in the store that failed.", "step", "failure"
        )
        for step in STORE_STEPS:
            for failure in StoreFailure:
                self._store_failures[step, failure].inc(0)

    def _make_process_families(self, identity: MetricsIdentity) -> None:
        self._in_flight = self._gauge("in_flight_requests", "Requests being answered now.")
        self._violations = self._total(
            "invariant_violations_total", "Assertions of ours that failed: always a bug."
        )
        self._loop_lag = self._gauge(
            "event_loop_lag_seconds", "Longest delay of the event loop in the last minute."
        )
        version, python, record_format, digest, level, write_mode = astuple(identity)
        self._info(
            "build_info",
            "What runs; always 1.",
            version=version,
            python=python,
            record_format=record_format,
        )
        self._info(
            "config_info",
            "How it is configured; always 1.",
            digest=digest,
            level_default=level,
            write_mode_default=write_mode,
        )

    # --- labels ----------------------------------------------------------------------------

    def _table(self, name: str | None) -> str:
        """Return the table's label, admitting a new name while there is room."""
        label = self._tables.get(name)
        if label is not None:
            return label
        admitted = len(self._tables) - 1  # None is no table
        return self._admit(str(name)) if admitted < self._tables_max else OTHER

    def _admit(self, name: str) -> str:
        # rate() sees no increase in a series that appears with its first count, so whatever an
        # alert watches starts at 0 the moment the table is first seen.
        for fence_result in FenceResult:
            self._fence_ends[name, fence_result].inc(0)
        for fill_result in FillResult:
            self._fills[name, fill_result].inc(0)
        for check in TableCheck:
            self._table_checks[name, check].inc(0)
        for operation in ITEM_OPERATIONS:
            self._throttles[operation, name].inc(0)
        for replaced in ("true", "false"):
            self._refreshes[name, replaced].inc(0)
        self._audits.admit(name)
        self._coalesced[(name,)].inc(0)
        self._tables[name] = name
        return name

    # --- events ----------------------------------------------------------------------------

    def _handler_table(self) -> dict[type, Callable[[Any], None]]:
        return {
            **self._audits.handlers(),
            **self._store.handlers(),
            **self.streams.handlers(),
            events.RequestAnswered: self._on_request,
            events.HitsAnswered: self._on_hits,
            events.BatchItemsAnswered: lambda e: self._batch_items[
                self._table(e.table), e.outcome
            ].inc(e.items),
            events.CapacitySaved: lambda e: self._units_saved[(self._table(e.table),)].inc(e.units),
            events.CapacityConsumed: lambda e: self._units_consumed[(self._table(e.table),)].inc(
                e.units
            ),
            events.FillEnded: lambda e: self._fills[self._table(e.table), e.result].inc(),
            events.RefreshEnded: lambda e: self._refreshes[
                self._table(e.table), str(e.replaced).lower()
            ].inc(),
            events.FenceEnded: lambda e: self._fence_ends[self._table(e.table), e.result].inc(),
            events.TableChecked: lambda e: self._table_checks[self._table(e.table), e.result].inc(),
            events.UpstreamAnswered: self._on_upstream,
            events.UpstreamSilent: lambda e: self._upstream_failures[
                _operation(e.operation), e.failure
            ].inc(),
            events.StoreAnswered: lambda e: self._store_s[(e.step,)].add(e.elapsed_s),
            events.StoreLookedUp: lambda e: self._store_s[("lookup",)].merge(e.latencies),
            events.StoreFailed: lambda e: self._store_failures[e.step, e.failure].inc(),
            events.DebtsChanged: lambda e: self._debts.set(e.debts),
            events.CredentialsChanged: self._on_credentials,
            events.InvariantViolated: lambda _: self._violations.inc(),
        }

    def _on_request(self, event: events.RequestAnswered) -> None:
        seconds, counts = self._answered.get(event[:-1]) or self._counted(event)
        seconds.add(event.elapsed_s)
        for count in counts:
            count.total += 1.0

    def _on_hits(self, event: events.HitsAnswered) -> None:
        table, hits = self._table(event.table), event.latencies.count
        self._requests["GetItem", table, event.outcome].inc(hits)
        self._request_s["GetItem", event.outcome].merge(event.latencies)
        self._http["GetItem", _OK].inc(hits)
        self._units_saved[(table,)].inc(event.units)

    def _counted(self, event: events.RequestAnswered) -> _Counted:
        """Find what counts such requests; keep it, unless anybody may make up such names."""
        operation, table = _operation(event.operation), self._table(event.table)
        outcome, reason = event.outcome, event.reason
        counts = [self._requests[operation, table, outcome], self._http[operation, event.status]]
        if reason is not None:
            counts.append(self._bypasses[table, reason])
        if outcome is Outcome.COALESCED:
            counts.append(self._coalesced[(table,)])
        found = self._request_s[operation, outcome], tuple(counts)
        if OTHER not in (operation, table):
            self._answered[event[:-1]] = found
        return found

    def _on_upstream(self, event: events.UpstreamAnswered) -> None:
        asked = event.operation, event.status
        seconds, counts = self._upstream_answered.get(asked) or self._upstream_counted(*asked)
        seconds.add(event.elapsed_s)
        for count in counts:
            count.total += 1.0
        if event.throttled:
            self._throttles[_operation(event.operation), self._table(event.table)].inc()

    def _upstream_counted(self, name: str, status: int) -> _Counted:
        operation = _operation(name)
        counts = (self._upstream_responses[operation, status],)
        found = self._upstream_s[(operation,)], counts
        if operation != OTHER:
            self._upstream_answered[name, status] = found
        return found

    def _on_credentials(self, event: events.CredentialsChanged) -> None:
        if event.problem is not None:
            self._credentials_failures.inc()


def _operation(name: str) -> str:
    return name if name in OPERATIONS else OTHER
