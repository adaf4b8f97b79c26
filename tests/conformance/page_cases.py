"""Queries and Scans that a client may send, the table they read, and the items in it."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.pair import INDEX, table_definition
from tests.conformance.read_cases import ReadCase
from tests.support.dynamo_wire import Call, Json

LOCAL: Final[Json] = {
    "IndexName": "by-weight",
    "KeySchema": [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "weight", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "ALL"},
}

ITEMS: Final[list[Json]] = [
    {
        "pk": {"S": pk},
        "sk": {"N": str(number)},
        "kind": {"S": "even" if number % 2 == 0 else "odd"},
        "weight": {"N": str(100 - number)},
        "text": {"S": f"é\u2028 {number}"},
        "nested": {"M": {"a": {"L": [{"N": str(number)}, {"BOOL": True}]}}},
        "set": {"SS": ["x", "y"]},
    }
    for pk in ("a", "b")
    for number in range(6)
] + [{"pk": {"S": "c"}, "sk": {"N": "1.50"}}]

PARTITION: Final[Json] = {
    "KeyConditionExpression": "pk = :p",
    "ExpressionAttributeValues": {":p": {"S": "a"}},
}


def pages_table(name: str) -> Json:
    """Return a table with a sort key and both kinds of index."""
    definition = table_definition(name, (("pk", "S"), ("sk", "N")))
    definition["AttributeDefinitions"] += [
        {"AttributeName": "kind", "AttributeType": "S"},
        {"AttributeName": "weight", "AttributeType": "N"},
    ]
    return definition | {"LocalSecondaryIndexes": [LOCAL], "GlobalSecondaryIndexes": [INDEX]}


def query(name: str, *, cached: bool = True, **more: Any) -> ReadCase:
    """Make a Query of partition a."""
    body = {"TableName": "$pages", **PARTITION, **more}
    return ReadCase(f"page-query-{name}", Call("Query", body), cached)


def sorted_by(name: str, condition: str, *, cached: bool = True, **values: str) -> ReadCase:
    """Make a Query with a condition on the sort key; `values` are numbers."""
    given = {":p": {"S": "a"}} | {f":{each}": {"N": number} for each, number in values.items()}
    more = {"KeyConditionExpression": condition, "ExpressionAttributeValues": given}
    return query(f"sort-{name}", cached=cached, **more)


def scan(name: str, *, cached: bool = True, **more: Any) -> ReadCase:
    """Make a Scan."""
    return ReadCase(f"page-scan-{name}", Call("Scan", {"TableName": "$pages", **more}), cached)


def _legacy(operator: str, *values: Json) -> Json:
    return {"ComparisonOperator": operator, "AttributeValueList": list(values)}


_KIND: Final[Json] = {
    "IndexName": "by-kind",
    "KeyConditionExpression": "kind = :k",
    "ExpressionAttributeValues": {":k": {"S": "odd"}},
}
_FILTER: Final[Json] = {
    "FilterExpression": "kind = :k",
    "ExpressionAttributeValues": {":p": {"S": "a"}, ":k": {"S": "odd"}},
}
_START: Final[Json] = {"pk": {"S": "a"}, "sk": {"N": "2"}}

# No two of them are the same request in other words, which would share a page.
PAGE_CASES: Final = [
    query("plain"),
    query("spelled", KeyConditionExpression="( #p\n=  :p )", ExpressionAttributeNames={"#p": "pk"}),
    query("empty", ExpressionAttributeValues={":p": {"S": "nobody"}}),
    query("reverse", ScanIndexForward=False),
    query("forward", ScanIndexForward=True, Limit=50),
    query("limit", Limit=4),
    query("start", ExclusiveStartKey=_START),
    query("start-limit-reverse", ExclusiveStartKey=_START, Limit=1, ScanIndexForward=False),
    query("filter", **_FILTER),
    query("filter-limit", Limit=3, **_FILTER),
    query("projection", ProjectionExpression="sk, nested.a[0]"),
    query("attributes", Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="sk"),
    query("count", Select="COUNT"),
    query("eventual", ConsistentRead=False, Limit=51),
    query("consistent", cached=False, ConsistentRead=True),
    query("capacity-total", ReturnConsumedCapacity="TOTAL", Limit=52),
    sorted_by("equal", "pk = :p AND sk = :a", a="3.0"),
    sorted_by("less", "pk = :p AND sk < :a", a="3"),
    sorted_by("greater-first", "sk >= :a AND pk = :p", a="3"),
    sorted_by("between", "pk = :p AND sk BETWEEN :a AND :b", a="1", b="3"),
    ReadCase(
        "page-query-legacy",
        Call(
            "Query",
            {
                "TableName": "$pages",
                "KeyConditions": {
                    "pk": _legacy("EQ", {"S": "a"}),
                    "sk": _legacy("GT", {"N": "2"}),
                },
                "QueryFilter": {"kind": _legacy("EQ", {"S": "odd"})},
            },
        ),
    ),
    query("local", IndexName="by-weight"),
    query("local-reverse-limit", IndexName="by-weight", ScanIndexForward=False, Limit=2),
    query(
        "local-both-equal",
        IndexName="by-weight",
        KeyConditionExpression="pk = :p AND weight = :s",
        ExpressionAttributeValues={":p": {"S": "a"}, ":s": {"N": "98"}},
    ),
    query("global", **_KIND),
    query("global-consistent", cached=False, ConsistentRead=True, **_KIND),
    query("error-no-condition", cached=False, KeyConditionExpression=""),
    query("error-sort-only", cached=False, KeyConditionExpression="sk = :p"),
    query(
        "error-unused-value",
        cached=False,
        ExpressionAttributeValues={
            ":p": {"S": "a"},
            ":q": {"S": "b"},
        },
    ),
    query("error-no-index", cached=False, IndexName="nowhere"),
    query("error-limit", cached=False, Limit=0),
    query("error-wrong-type", cached=False, ExpressionAttributeValues={":p": {"N": "1"}}),
    query("error-or", cached=False, KeyConditionExpression="pk = :p OR pk = :p"),
    query("error-member", cached=False, Limit="many"),
    scan("plain"),
    scan("limit", Limit=4),
    scan("segment-0", Segment=0, TotalSegments=2),
    scan("segment-1", Segment=1, TotalSegments=2),
    scan("count", Select="COUNT"),
    scan("filter", FilterExpression="kind = :k", ExpressionAttributeValues={":k": {"S": "odd"}}),
    scan("local", IndexName="by-weight"),
    scan("global", IndexName="by-kind"),
    scan("consistent", cached=False, ConsistentRead=True),
    scan("error-segment", cached=False, Segment=2, TotalSegments=2),
    ReadCase(
        "page-scan-error-no-table", Call("Scan", {"TableName": "no-such-table"}), cached=False
    ),
]
