"""Whatever a client reads in a batch, it gets the engine's own answer, however much is cached.

The order of a table's items is nobody's promise: they are compared as a multiset.
"""

from __future__ import annotations

import json

import pytest

from tests.conformance.accepted_differences import Step
from tests.conformance.batch_cases import ANSWERED, BATCH_CASES, MIXED
from tests.conformance.comparison import assert_conforms
from tests.conformance.pair import Pair
from tests.conformance.read_cases import ITEMS, ReadCase
from tests.support.dynamo_wire import Call, Json, Reply


@pytest.fixture(scope="session")
def filled_pair(pair: Pair) -> Pair:
    """Give the pair with every item of ITEMS in its tables."""
    for table, items in ITEMS.items():
        for item in items:
            pair.put(table, item)
    return pair


def settled(reply: Reply) -> Reply:
    """Return the same answer with the items and the capacities of its tables in one order."""
    assert reply.crc_is_right
    if reply.status != 200:
        return reply
    content: Json = dict(reply.content)
    content["Responses"] = {
        table: sorted(items, key=json.dumps) for table, items in content["Responses"].items()
    }
    if "ConsumedCapacity" in content:
        content["ConsumedCapacity"].sort(key=lambda consumed: consumed["TableName"])
    return reply.containing(content)


@pytest.mark.parametrize("case", BATCH_CASES, ids=lambda case: case.name)
def test_batch_is_answered_as_by_the_engine(
    filled_pair: Pair, cold_pair: Pair, case: ReadCase
) -> None:
    """Status, type, checksum and body are the engine's, on a miss and on a hit."""
    direct = settled(cold_pair.ask_engine(case.call))
    for step in Step:
        proxied = cold_pair.ask_proxy(case.call)
        assert_conforms(cold_pair.engine, case.name, step, direct=direct, proxied=settled(proxied))
        hit = "; hit" in proxied.cache_status
        assert hit == (case.cached and step is Step.WARM), proxied.cache_status
        assert "undecodable" not in proxied.cache_status or not case.cached
        partial = case is MIXED and step is Step.WARM
        assert ("fwd=partial; detail=hits-2-of-3" in proxied.cache_status) == partial


@pytest.mark.parametrize(
    "case", [case for case in ANSWERED if "capacity" not in case.name], ids=lambda case: case.name
)
def test_partly_cached_batch_is_answered_as_by_the_engine(
    filled_pair: Pair, cold_pair: Pair, case: ReadCase
) -> None:
    """With every second key cached by reads of single items, the answer is the same."""
    direct = settled(cold_pair.ask_engine(case.call))
    named = json.loads(case.call.naming(cold_pair.names).raw_body)["RequestItems"]
    wanted = [(table, key) for table, part in named.items() for key in part["Keys"]]
    for table, key in wanted[::2]:
        cold_pair.ask_proxy(Call("GetItem", {"TableName": table, "Key": key}))
    proxied = cold_pair.ask_proxy(case.call)
    assert_conforms(cold_pair.engine, case.name, Step.COLD, direct=direct, proxied=settled(proxied))
    if len(wanted) > 1:
        there = (len(wanted) + 1) // 2
        assert f"fwd=partial; stored; detail=hits-{there}-of-{len(wanted)}" in proxied.cache_status
