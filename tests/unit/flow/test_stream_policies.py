"""Claims about tables whose stream lags."""

from __future__ import annotations

from dataclasses import replace

from proxy.core.policy import TablePolicy
from proxy.core.stream_lag import LagPolicy
from proxy.core.values import Mode, TableName
from proxy.flow.events import Event, StreamLagMoved
from proxy.flow.stream_policies import StreamPolicies

TABLE, OTHER = TableName("orders"), TableName("other")


class Tables:
    """Policies that can be switched, and what was told."""

    def __init__(self) -> None:
        self.policy = TablePolicy()
        self.events: list[Event] = []
        lag = LagPolicy(lag_s_max=30.0, short_ttl_s=2.0)
        self.policies = StreamPolicies(lambda _: self.policy, lag=lag, emit=self.events.append)


async def test_a_table_within_the_bound_keeps_its_policy() -> None:
    """The very object, so that nothing which was remembered under it is forgotten."""
    tables = Tables()
    tables.policies.judge(TABLE, 30.0)
    assert tables.policies.policy_of(TABLE) is tables.policy
    assert (tables.policies.over, tables.events) == ((), [])


async def test_a_table_over_the_bound_degrades_and_recovers_by_itself() -> None:
    """Each move is told once, and other tables keep theirs."""
    tables = Tables()
    for lag_s in (None, 31.0):
        tables.policies.judge(TABLE, lag_s)
    short = tables.policies.policy_of(TABLE)
    assert short.fresh_ttl_s == 2.0
    assert tables.policies.policy_of(TABLE) is short
    assert tables.policies.policy_of(OTHER) is tables.policy
    assert tables.policies.over == (TABLE,)
    tables.policies.judge(TABLE, 0.5)
    assert tables.policies.policy_of(TABLE) is tables.policy
    assert tables.events == [StreamLagMoved(TABLE, over=True), StreamLagMoved(TABLE, over=False)]


async def test_what_follows_from_a_policy_is_forgotten_before_another_counts() -> None:
    """Hits that stand in this process, say."""
    tables, seen = Tables(), []
    tables.policies.switching = lambda: seen.append(tables.policies.over)
    for lag_s in (0.5, None, 31.0, 0.5, 0.5):
        tables.policies.judge(TABLE, lag_s)
    assert seen == [(), (TABLE,)]


async def test_a_mode_that_is_switched_meanwhile_counts_at_once() -> None:
    """The degraded policy follows the other one."""
    tables = Tables()
    tables.policies.judge(TABLE, None)
    tables.policy = replace(tables.policy, mode=Mode.SHADOW)
    assert tables.policies.policy_of(TABLE).mode is Mode.SHADOW
    assert tables.policies.policy_of(TABLE).fresh_ttl_s == 2.0
