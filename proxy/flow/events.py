"""What happened, as values; metrics and the log subscribe (`proxy.edge.metrics`, `proxy.edge.log`).

One event per fact. Fields are enums, table names, counts and seconds: no cache key, no primary
key, no item content ever travels in an event. What tells items apart is a hash under a key that
this process alone has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
)


class RequestAnswered(NamedTuple):
    """One request got its answer, whatever it was.

    A tuple, since there is one with every request and a frozen dataclass takes twice as long.

    Args:
        operation: the operation's name, `GetItem`; "other" for what is no DynamoDB operation.
        table: the table, or None where the proxy did not look.
        outcome: how it was answered.
        reason: set with `Outcome.BYPASS`.
        status: HTTP status sent.
        elapsed_s: from the complete request to the complete answer.
    """

    operation: str
    table: TableName | None
    outcome: Outcome
    reason: BypassReason | None
    status: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class HitsAnswered:
    """Hits on one table were answered by GetItem, told together some time later.

    Args:
        table: the table.
        outcome: of each.
        units: read capacity units that all of them would have cost.
        latencies: how long they took, as `RequestAnswered.elapsed_s`.
    """

    table: TableName
    outcome: Outcome
    units: float
    latencies: LatencyTally


@dataclass(frozen=True, slots=True)
class BatchItemsAnswered:
    """So many items of one table in one BatchGetItem were answered in one way."""

    table: TableName
    outcome: Outcome
    items: int


@dataclass(frozen=True, slots=True)
class CapacitySaved:
    """A read was answered without upstream; `units` are read capacity units it would have cost."""

    table: TableName
    units: float


@dataclass(frozen=True, slots=True)
class CapacityConsumed:
    """A read cost capacity: reported by upstream, or computed from the item's size."""

    table: TableName
    units: float


@dataclass(frozen=True, slots=True)
class FillEnded:
    """A fetched item was offered to the store."""

    table: TableName
    result: FillResult


@dataclass(frozen=True, slots=True)
class RefreshEnded:
    """A refresh in the background ended; `replaced` tells whether a new entry was stored."""

    table: TableName
    replaced: bool


@dataclass(frozen=True, slots=True)
class AuditEnded:
    """A sampled hit was compared with DynamoDB, or was not."""

    table: TableName
    result: AuditResult


@dataclass(frozen=True, slots=True)
class StaleFound:
    """An entry that DynamoDB contradicts would be served still; it was invalidated.

    Args:
        table: its table.
        level: what is promised for the table.
        age_s: since it was filled: the longest that it can have been wrong.
        mark: hash of its identity, the same for the same item in this process only.
        in_shadow: found by a rehearsal: it was served to nobody.
    """

    table: TableName
    level: Level
    age_s: float
    mark: str
    in_shadow: bool


@dataclass(frozen=True, slots=True)
class ShadowCompared:
    """A read in shadow was answered by DynamoDB, and rehearsed; `table` None for several."""

    table: TableName | None
    result: ShadowResult


@dataclass(frozen=True, slots=True)
class ModeSwitched:
    """An operator switched the mode of a table until the next start."""

    table: TableName
    mode: Mode
    percent: float


@dataclass(frozen=True, slots=True)
class FenceEnded:
    """A write's end step on one record."""

    table: TableName
    result: FenceResult


@dataclass(frozen=True, slots=True)
class TableChecked:
    """Upstream was asked, or told by itself, which table a name stands for.

    UNKNOWN is told once per table, until a check succeeds again.
    """

    table: TableName
    result: TableCheck


class UpstreamAnswered(NamedTuple):
    """Upstream answered one request of ours; `throttled` for its throttling errors.

    A tuple for the same reason as `RequestAnswered`.
    """

    operation: str
    table: TableName | None
    status: int
    throttled: bool
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class UpstreamSilent:
    """Upstream gave no complete answer."""

    operation: str
    table: TableName | None
    failure: UpstreamFailure


@dataclass(frozen=True, slots=True)
class StoreAnswered:
    """The store answered one round trip; `step` is the port method's name."""

    step: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StoreLookedUp:
    """The store answered lookups, told together some time later."""

    latencies: LatencyTally


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """A step in the store failed."""

    step: str
    failure: StoreFailure


@dataclass(frozen=True, slots=True)
class StoreServing:
    """Whether hits are allowed changed: connected, heartbeat young, quarantine over.

    Args:
        serving: for some items at least.
        why: why not; or why not for all, where nodes of a cluster are out.
        nodes_out: how many of them.
    """

    serving: bool
    why: str
    nodes_out: int = 0


@dataclass(frozen=True, slots=True)
class StoreFitness:
    """What the store lacks for level `strict` changed; `demanded` where a table needs it."""

    flaws: tuple[Flaw, ...]
    demanded: bool


@dataclass(frozen=True, slots=True)
class StoreConnections:
    """Number of open connections to the store now; `opened` is 1 when one was just made."""

    open_now: int
    opened: int


@dataclass(frozen=True, slots=True)
class StoreDetour:
    """A connection to the store goes the slower way: the client library has changed inside."""


@dataclass(frozen=True, slots=True)
class StoreEvictions:
    """The store's own count of evicted keys since its start."""

    evicted_total: int


@dataclass(frozen=True, slots=True)
class BreakerMoved:
    """The store's breaker entered `state`: `closed`, `open` or `probing`."""

    state: str


@dataclass(frozen=True, slots=True)
class DebtsChanged:
    """Writes of this process whose effect on the store is still owed."""

    debts: int


@dataclass(frozen=True, slots=True)
class CredentialsChanged:
    """Credentials were loaded, rotated, or could not be refreshed (`problem`, no secret in it)."""

    source: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class StreamRecordsApplied:
    """So many records of a table's stream took effect in one way."""

    table: TableName
    result: RecordResult
    records: int


@dataclass(frozen=True, slots=True)
class StreamGap:
    """Records of a table's stream are lost, or were never meant to be read: it was voided."""

    table: TableName
    reason: GapReason


@dataclass(frozen=True, slots=True)
class StreamTroubled:
    """A request about a table's stream brought nothing."""

    table: TableName
    trouble: StreamTrouble


@dataclass(frozen=True, slots=True)
class StreamParked:
    """A record was parked, and pushed out so many older ones."""

    table: TableName
    reason: PoisonReason
    pushed_out: int


@dataclass(frozen=True, slots=True)
class StreamLagMoved:
    """A table's lag went over its bound, or came back."""

    table: TableName
    over: bool


@dataclass(frozen=True, slots=True)
class InvariantViolated:
    """An assertion of ours failed; the request got a 500 and nothing was served."""

    where: str


Event = (
    RequestAnswered
    | HitsAnswered
    | BatchItemsAnswered
    | CapacitySaved
    | CapacityConsumed
    | FillEnded
    | RefreshEnded
    | AuditEnded
    | StaleFound
    | ShadowCompared
    | ModeSwitched
    | FenceEnded
    | TableChecked
    | UpstreamAnswered
    | UpstreamSilent
    | StoreAnswered
    | StoreLookedUp
    | StoreFailed
    | StoreServing
    | StoreFitness
    | StoreConnections
    | StoreDetour
    | StoreEvictions
    | BreakerMoved
    | DebtsChanged
    | CredentialsChanged
    | StreamRecordsApplied
    | StreamGap
    | StreamTroubled
    | StreamParked
    | StreamLagMoved
    | InvariantViolated
)

Emit = Callable[[Event], None]
"""Hands one event to the subscribers; never raises, never blocks."""
