"""Operations of random sequences, and the ways to a table on which they are performed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from hypothesis import strategies as st

from tests.support.dynamo_wire import Call, Connection, Json, spelled

Place = tuple[str, str]
"""Partition key and sort key, without the mark."""

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
    """One operation; `$mark` in its primary key tells examples apart."""

    operation: str
    body: Json


def key_of(place: Place) -> Json:
    """Return the primary key of a place."""
    return {"pk": {"S": f"$mark-{place[0]}"}, "sk": {"N": place[1]}}


def conditioned(body: Json, condition: str) -> Json:
    """Add a condition to a write."""
    if condition:
        body["ConditionExpression"] = condition
        body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return body


def get(place: Place, projection: str, *, consistent: bool) -> Step:
    """Read an item."""
    body: Json = {"Key": key_of(place)}
    if projection:
        body["ProjectionExpression"] = projection
    if "#" in projection:
        body["ExpressionAttributeNames"] = {"#v": "v"}
    if consistent:
        body["ConsistentRead"] = True
    return Step("GetItem", body)


def batch_get(places: list[Place], projection: str, *, consistent: bool) -> Step:
    """Read several items."""
    asked = get(places[0], projection, consistent=consistent).body
    del asked["Key"]
    asked["Keys"] = [key_of(place) for place in places]
    return Step("BatchGetItem", {"RequestItems": {"$table": asked}})


def put(place: Place, value: Json, condition: str, wish: str) -> Step:
    """Put an item."""
    body: Json = {"Item": {**key_of(place), "v": value}, "ReturnValues": wish}
    return Step("PutItem", conditioned(body, condition))


def delete(place: Place, condition: str, wish: str) -> Step:
    """Delete an item."""
    return Step("DeleteItem", conditioned({"Key": key_of(place), "ReturnValues": wish}, condition))


def update(place: Place, value: Json, condition: str, wish: str) -> Step:
    """Set two attributes of an item."""
    body: Json = {
        "Key": key_of(place),
        "UpdateExpression": "SET v = :v, w = :v",
        "ExpressionAttributeValues": {":v": value},
        "ReturnValues": wish,
    }
    return Step("UpdateItem", conditioned(body, condition))


def batch(place: Place, value: Json) -> Step:
    """Put an item by a batch."""
    request = {"PutRequest": {"Item": {**key_of(place), "v": value}}}
    return Step("BatchWriteItem", {"RequestItems": {"$table": [request]}})


UPDATE_WISHES: Final = st.sampled_from(["NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW"])
READS: Final = st.builds(get, PLACES, PROJECTIONS, consistent=st.sampled_from([False, False, True]))
BATCH_READS: Final = st.builds(
    batch_get,
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
    st.builds(put, PLACES, VALUES, CONDITIONS, WISHES),
    st.builds(update, PLACES, VALUES, CONDITIONS, UPDATE_WISHES),
    st.builds(delete, PLACES, CONDITIONS, WISHES),
    st.builds(batch, PLACES, VALUES),
)


NAMING_TABLES: Final = frozenset({"RequestItems", "TransactItems", "Statement"})
"""Members that name the table themselves."""


class Way:
    """One way to a table, on one connection."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self.table = table
        self.cache_says: list[str] = []

    def answer(self, step: Step, mark: str) -> tuple[int, Any]:
        """Perform one step; return status and content."""
        body = step.body
        if not NAMING_TABLES & body.keys():
            body = {"TableName": "$table", **body}
        names = {"table": self.table, "mark": mark, "token": f"{mark}-{self.table}"}
        call = Call(step.operation, body).naming(names)
        self._connection.send(spelled(call, self._connection.host))
        reply = self._connection.receive()
        assert reply.crc_is_right
        self.cache_says.append(reply.cache_status)
        content = json.loads(json.dumps(reply.content).replace(self.table, "$table"))
        if step.operation in SORTED and reply.status == HTTPStatus.OK:
            content = SORTED[step.operation](content)
        return reply.status, content


def _batch_sorted(content: Json) -> Json:
    """Sort what nobody promises an order of."""
    items = content["Responses"].pop("$table")
    return {**content, "items": sorted(items, key=json.dumps)}


def _scan_sorted(content: Json) -> Json:
    """The same; how many items a filter left out depends on who else uses the table."""
    return {"items": sorted(content["Items"], key=json.dumps), "count": content["Count"]}


SORTED: Final = {"BatchGetItem": _batch_sorted, "Scan": _scan_sorted}
