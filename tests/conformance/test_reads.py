"""Whatever a client reads, it gets the engine's own answer: cold, and again from the cache.

What may differ stands in `accepted_differences.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.accepted_differences import Step
from tests.conformance.comparison import assert_conforms
from tests.conformance.pair import Pair
from tests.conformance.read_cases import ITEM_READS, ITEMS, READ_CASES, ReadCase
from tests.support.dynamo_wire import Call
from tests.support.sdk import boto3_client


@pytest.fixture(scope="session")
def filled_pair(pair: Pair) -> Pair:
    """Give the pair with every item of ITEMS in its tables."""
    for table, items in ITEMS.items():
        for item in items:
            pair.put(table, item)
    return pair


@pytest.mark.parametrize("case", READ_CASES, ids=lambda case: case.name)
def test_read_is_answered_as_by_the_engine(
    filled_pair: Pair, cold_pair: Pair, case: ReadCase
) -> None:
    """Status, type, checksum and body are the engine's, on a miss and on a hit."""
    direct = cold_pair.ask_engine(case.call)
    for step in Step:
        proxied = cold_pair.ask_proxy(case.call)
        assert_conforms(cold_pair.engine, case.name, step, direct=direct, proxied=proxied)
        hit = "; hit" in proxied.cache_status
        assert hit == (case.cached and step is Step.WARM), proxied.cache_status


@pytest.mark.parametrize("expression", ["a, a.b", "a, a", "#a.b[0], a"])
def test_overlapping_paths_get_the_engines_error(
    filled_pair: Pair, cold_pair: Pair, expression: str
) -> None:
    """Also when the whole item is cached, DynamoDB itself says that two paths overlap."""
    whole = {"TableName": "$hash", "Key": {"pk": {"S": "nested"}}}
    names = {"ExpressionAttributeNames": {"#a": "a"}} if "#" in expression else {}
    overlapping = Call("GetItem", whole | {"ProjectionExpression": expression} | names)
    direct = cold_pair.ask_engine(overlapping)
    assert direct.content["__type"].endswith("ValidationException")
    for step in Step:
        proxied = cold_pair.ask_proxy(overlapping)
        assert_conforms(cold_pair.engine, "overlap", step, direct=direct, proxied=proxied)
        assert "fwd=bypass; detail=undecodable" in proxied.cache_status
        cached = [cold_pair.ask_proxy(Call("GetItem", whole)) for _ in range(2)]
        assert "; hit" in cached[1].cache_status


@pytest.mark.parametrize("case", ITEM_READS, ids=lambda case: case.name)
def test_boto3_reads_the_same(filled_pair: Pair, cold_pair: Pair, case: ReadCase) -> None:
    """An SDK, which checks the checksum and reads every type, sees no difference either."""
    parameters: dict[str, Any] = json.loads(case.call.naming(cold_pair.names).raw_body)
    parameters.pop("ReturnConsumedCapacity", None)  # differs, and is compared above
    parameters["Key"] = {name: _binary(value) for name, value in parameters["Key"].items()}
    direct = boto3_client(cold_pair.direct).get_item(**parameters)
    for _ in Step:
        proxied = boto3_client(cold_pair.proxy.endpoint).get_item(**parameters)
        assert proxied.get("Item") == direct.get("Item")


def _binary(value: dict[str, Any]) -> dict[str, Any]:
    """Return a key's value as boto3 takes it: binary content as bytes."""
    return {"B": bytes([0, 1, 2, 255])} if "B" in value else value
