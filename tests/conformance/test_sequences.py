"""Random sequences of item operations give the same answers through the proxy as directly.

Each example has items of its own: directly in one table, through the proxy in tables of every
combination of coherence level and write mode that promises to see one's own writes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.embedded.valkey import RunningStore
from tests.conformance.pair import ENGINES, create_table, table_definition
from tests.support.dynamo_wire import Call, Connection, Json, connected, spelled
from tests.support.proxy_process import running_proxy

MODES: Final[dict[str, Json]] = {
    "invalidate": {"write_mode": "invalidate"},
    "through": {"write_mode": "through"},
    "strict": {"level": "strict", "write_mode": "through"},
    "eventual": {"level": "eventual", "write_mode": "through"},
    "off": {"mode": "off"},
}
"""Each is a table with these rules; the sequences of an example run in two of them."""

KEYS: Final = (("pk", "S"), ("sk", "N"))
PLACES: Final = st.sampled_from([("a", "1"), ("a", "2"), ("b", "1")])
VALUES: Final = st.sampled_from(
    [
        {"S": "x"},
        {"S": ""},
        {"N": "7"},
        {"N": "7.50"},
        {"N": "1e2"},
        {"SS": ["b", "a"]},
        {"BOOL": True},
        {"M": {"v": {"L": [{"N": "0.0"}, {"NULL": True}]}}},
    ]
)
CONDITIONS: Final = st.sampled_from(["", "attribute_exists(v)", "attribute_not_exists(pk)"])
WISHES: Final = st.sampled_from(["NONE", "ALL_OLD"])
PROJECTIONS: Final = st.sampled_from(["", "v", "v.v[0], pk", "w", "#v"])


@dataclass(frozen=True)
class Step:
    """One operation on one item; `$mark` in its primary key tells examples apart."""

    operation: str
    body: Json


def _key(place: tuple[str, str]) -> Json:
    return {"pk": {"S": f"$mark-{place[0]}"}, "sk": {"N": place[1]}}


def _conditioned(body: Json, condition: str) -> Json:
    if condition:
        body["ConditionExpression"] = condition
        body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return body


def _get(place: tuple[str, str], projection: str, *, consistent: bool) -> Step:
    body: Json = {"Key": _key(place)}
    if projection:
        body["ProjectionExpression"] = projection
    if "#" in projection:
        body["ExpressionAttributeNames"] = {"#v": "v"}
    if consistent:
        body["ConsistentRead"] = True
    return Step("GetItem", body)


def _batch_get(places: list[tuple[str, str]], projection: str, *, consistent: bool) -> Step:
    asked = _get(places[0], projection, consistent=consistent).body
    del asked["Key"]
    asked["Keys"] = [_key(place) for place in places]
    return Step("BatchGetItem", {"RequestItems": {"$table": asked}})


def _put(place: tuple[str, str], value: Json, condition: str, wish: str) -> Step:
    body: Json = {"Item": {**_key(place), "v": value}, "ReturnValues": wish}
    return Step("PutItem", _conditioned(body, condition))


def _delete(place: tuple[str, str], condition: str, wish: str) -> Step:
    return Step("DeleteItem", _conditioned({"Key": _key(place), "ReturnValues": wish}, condition))


def _update(place: tuple[str, str], value: Json, condition: str, wish: str) -> Step:
    body: Json = {
        "Key": _key(place),
        "UpdateExpression": "SET v = :v, w = :v",
        "ExpressionAttributeValues": {":v": value},
        "ReturnValues": wish,
    }
    return Step("UpdateItem", _conditioned(body, condition))


def _batch(place: tuple[str, str], value: Json) -> Step:
    request = {"PutRequest": {"Item": {**_key(place), "v": value}}}
    return Step("BatchWriteItem", {"RequestItems": {"$table": [request]}})


UPDATE_WISHES: Final = st.sampled_from(["NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW"])
READS: Final = st.builds(
    _get, PLACES, PROJECTIONS, consistent=st.sampled_from([False, False, True])
)
BATCH_READS: Final = st.builds(
    _batch_get,
    st.lists(PLACES, min_size=1, max_size=3, unique=True),
    PROJECTIONS,
    consistent=st.sampled_from([False, False, True]),
)
STEPS: Final = st.one_of(
    BATCH_READS,
    BATCH_READS,
    READS,
    READS,
    READS,
    st.builds(_put, PLACES, VALUES, CONDITIONS, WISHES),
    st.builds(_update, PLACES, VALUES, CONDITIONS, UPDATE_WISHES),
    st.builds(_delete, PLACES, CONDITIONS, WISHES),
    st.builds(_batch, PLACES, VALUES),
)


class Way:
    """One way to a table, on one connection."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self.cache_says: list[str] = []

    def answer(self, step: Step, mark: str) -> tuple[int, Any]:
        """Perform one step; return status and content."""
        body = step.body if "RequestItems" in step.body else {"TableName": "$table", **step.body}
        call = Call(step.operation, body).naming({"table": self._table, "mark": mark})
        self._connection.send(spelled(call, self._connection.host))
        reply = self._connection.receive()
        assert reply.crc_is_right
        self.cache_says.append(reply.cache_status)
        if step.operation == "BatchGetItem" and reply.status == HTTPStatus.OK:
            return reply.status, self._batch(reply.content)
        return reply.status, reply.content

    def _batch(self, content: Json) -> Json:
        """Name the table as every way does; the order of its items is nobody's promise."""
        items = content["Responses"].pop(self._table)
        return {**content, "items": sorted(items, key=json.dumps)}


@pytest.fixture(scope="module", params=[pytest.param(e, marks=pytest.mark.engine) for e in ENGINES])
def ways(request: pytest.FixtureRequest, valkey: RunningStore) -> Iterator[dict[str, Way]]:
    """Give the direct way and one through the proxy for every mode."""
    endpoint = request.getfixturevalue(request.param).endpoint
    tables = {mode: f"s-{uuid.uuid4().hex[:8]}" for mode in ("direct", *MODES)}
    for name in tables.values():
        create_table(endpoint, table_definition(name, KEYS))
    rules = {"tables": {tables[mode]: rule for mode, rule in MODES.items()}}
    with (
        running_proxy(upstream=endpoint, store=valkey.url, settings=rules) as proxy,
        connected(endpoint) as straight,
        connected(proxy.endpoint) as proxied,
    ):
        made = {mode: Way(proxied, tables[mode]) for mode in MODES}
        yield {**made, "direct": Way(straight, tables["direct"])}


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(STEPS, min_size=4, max_size=25),
    modes=st.lists(st.sampled_from(sorted(MODES)), min_size=2, max_size=2, unique=True),
)
def test_sequence_is_answered_as_directly(
    ways: dict[str, Way], steps: list[Step], modes: list[str]
) -> None:
    """Every answer of a sequence, reads, writes and refusals, is the engine's, in both tables."""
    mark = uuid.uuid4().hex[:8]
    for number, step in enumerate(steps):
        expected = ways["direct"].answer(step, mark)
        for mode in modes:
            assert ways[mode].answer(step, mark) == expected, (number, mode)


def test_sequences_do_hit_the_cache(ways: dict[str, Way]) -> None:
    """The tables with a cache answer repeated reads from it, the one without never does."""
    read = _get(("a", "1"), "", consistent=False)
    batch = _batch_get([("a", "1"), ("a", "2")], "", consistent=False)
    for mode in MODES:
        for step in (read, batch):
            for _ in range(2):
                ways[mode].answer(step, "nobody")
            assert ("; hit" in ways[mode].cache_says[-1]) == (mode != "off")
