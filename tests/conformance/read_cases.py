"""Reads that a client may send, and the items that they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.support.dynamo_wire import Call, Json

DIGITS_38: Final = "12345678901234567890123456789012345678"
DEEP: Final[Json] = {"M": {"b": {"L": [{"M": {"c": {"S": "deep"}}}, {"N": "2"}, {"S": "three"}]}}}

ITEMS: Final[dict[str, list[Json]]] = {
    "hash": [
        {
            "pk": {"S": "types"},
            "s": {"S": "text"},
            "n": {"N": "42"},
            "b": {"B": "AAEC/w=="},
            "bool": {"BOOL": True},
            "null": {"NULL": True},
            "ss": {"SS": ["x", "y"]},
            "ns": {"NS": ["1", "2.5"]},
            "bs": {"BS": ["AA==", "AQ=="]},
            "l": {"L": [{"S": "a"}, {"N": "1"}, {"L": []}]},
            "m": {"M": {"k": {"S": "v"}, "empty": {"M": {}}}},
        },
        {
            "pk": {"S": "numbers"},
            "digits": {"N": DIGITS_38},
            "fraction": {"N": "0." + DIGITS_38},
            "large": {"N": "9." + "9" * 37 + "E+125"},
            "small": {"N": "1E-130"},
            "zero": {"N": "-0.00"},
            "odd": {"N": "01.500e+3"},
            "set": {"NS": ["1.0", "2e2", "-0.5"]},
        },
        {"pk": {"S": "empty"}, "s": {"S": ""}, "b": {"B": ""}, "l": {"L": []}, "m": {"M": {}}},
        {"pk": {"S": "nested"}, "a": DEEP, "d.t": {"S": "dot"}, "name": {"S": "reserved"}},
        {"pk": {"S": "large"}, "s": {"S": "x" * (390 * 1024)}},
        {"pk": {"S": "ключ-🎉"}, "ä\u2028": {"S": '𝄞 "quoted" \\ \u0001 \n'}},
        {"pk": {"S": "only-key"}},
    ],
    "range": [
        {"pk": {"S": "a"}, "sk": {"N": str(number)}, "kind": {"S": "k"}, "v": {"N": str(number)}}
        for number in range(4)
    ],
    "number": [{"pk": {"N": "1000"}, "v": {"S": "thousand"}}, {"pk": {"N": DIGITS_38}}],
    "binary": [{"pk": {"B": "AAEC/w=="}, "v": {"S": "bytes"}}],
}


@dataclass(frozen=True)
class ReadCase:
    """One read.

    Args:
        name: says what is special about it.
        call: as the client sends it.
        cached: the proxy answers it from the cache the second time; otherwise it always asks.
    """

    name: str
    call: Call
    cached: bool = True


def get(name: str, key: Json, table: str = "hash", *, cached: bool = True, **more: Any) -> ReadCase:
    """Make a GetItem."""
    call = Call("GetItem", {"TableName": f"${table}", "Key": key, **more})
    return ReadCase(name, call, cached)


def projected(name: str, expression: str, *, cached: bool = True, **names: str) -> ReadCase:
    """Make a GetItem of the nested item with a projection; `names` are placeholders without #."""
    more: Json = {"ProjectionExpression": expression}
    if names:
        more["ExpressionAttributeNames"] = {f"#{name}": meant for name, meant in names.items()}
    return get(f"projection-{name}", {"pk": {"S": "nested"}}, cached=cached, **more)


def passed(name: str, call: Call) -> ReadCase:
    """Make a case of something that is never answered from the cache."""
    return ReadCase(name, call, cached=False)


def raw_get(name: str, body: bytes) -> ReadCase:
    """Make a GetItem with exactly these bytes, which only upstream can judge."""
    return passed(name, Call("GetItem", body))


def _key(text: str) -> Json:
    return {"pk": {"S": text}}


ITEM_READS: Final = [
    *(get(f"item-{item['pk']['S']}", {"pk": item["pk"]}) for item in ITEMS["hash"]),
    get("item-range", {"pk": {"S": "a"}, "sk": {"N": "1"}}, "range"),
    get("key-order", {"sk": {"N": "1"}, "pk": {"S": "a"}}, "range"),
    get("key-spelling", {"pk": {"S": "a"}, "sk": {"N": "1.0"}}, "range"),
    get("key-exponent", {"pk": {"N": "1E3"}}, "number"),
    get("key-38-digits", {"pk": {"N": DIGITS_38}}, "number"),
    get("key-binary", {"pk": {"B": "AAEC/w=="}}, "binary"),
    get("missing", _key("nobody")),
    get("missing-unicode", _key("🎉" * 100)),
    get("missing-projected", _key("nobody"), ProjectionExpression="a"),
    ReadCase(
        "key-unescaped",
        Call("GetItem", '{"TableName": "$hash", "Key": {"pk": {"S": "ключ-🎉"}}}'.encode()),
    ),
    get("capacity-none", _key("types"), ReturnConsumedCapacity="NONE"),
    get("capacity-total", _key("types"), ReturnConsumedCapacity="TOTAL"),
    get("capacity-indexes", _key("types"), ReturnConsumedCapacity="INDEXES"),
    get("capacity-missing-item", _key("nobody"), ReturnConsumedCapacity="TOTAL"),
    get(
        "capacity-projected",
        _key("types"),
        ReturnConsumedCapacity="TOTAL",
        ProjectionExpression="s",
    ),
    get("consistent-false", _key("types"), ConsistentRead=False),
    get("attributes-to-get", _key("types"), AttributesToGet=["s", "m", "nobody"]),
    get("attributes-to-get-reserved", _key("nested"), AttributesToGet=["name", "d.t"]),
    ReadCase(
        "content-type-json",
        Call(
            "GetItem",
            {"TableName": "$hash", "Key": _key("types")},
            (("Content-Type", "application/json"),),
        ),
    ),
]

PROJECTIONS: Final = [
    projected("top", "a"),
    projected("nested", "a.b[0].c, a.b[2]"),
    projected("blanks", " a.b[1] ,\n#n ", n="name"),
    projected("placeholder", "#d", d="d.t"),
    projected("nested-placeholder", "#a.#b[0]", a="a", b="b"),
    projected("nothing", "nobody"),
    projected("nothing-nested", "a.nobody.c"),
    projected("index-beyond", "a.b[99]"),
    projected("index-of-map", "a[0]"),
    projected("overlap", "a, a.b", cached=False),
    projected("same-twice", "a, a", cached=False),
    projected("reserved", "name", cached=False),
    projected("unused-name", "a", cached=False, x="name"),
    projected("undefined-name", "#nobody", cached=False),
    projected("empty", "", cached=False),
    projected("syntax", "a..b", cached=False),
    get(
        "projection-both-kinds",
        _key("nested"),
        cached=False,
        ProjectionExpression="a",
        AttributesToGet=["a"],
    ),
    get("names-alone", _key("nested"), cached=False, ExpressionAttributeNames={"#a": "a"}),
    get("attributes-to-get-empty", _key("nested"), cached=False, AttributesToGet=[]),
    get("attributes-to-get-twice", _key("nested"), cached=False, AttributesToGet=["a", "a"]),
]

REFUSALS: Final = [
    get("key-wrong-type", {"pk": {"N": "1"}}, cached=False),
    get("key-extra", {"pk": {"S": "types"}, "x": {"S": "y"}}, cached=False),
    get("key-lacks-sort", {"pk": {"S": "a"}}, "range", cached=False),
    get("key-other-name", {"id": {"S": "a"}}, cached=False),
    get("key-empty", {}, cached=False),
    get("key-empty-text", _key(""), cached=False),
    get("key-not-a-number", {"pk": {"N": "one"}}, "number", cached=False),
    get("key-39-digits", {"pk": {"N": DIGITS_38 + "9"}}, "number", cached=False),
    get("key-bad-base64", {"pk": {"B": "AAEC/w"}}, "binary", cached=False),
    get("key-two-types", {"pk": {"S": "a", "N": "1"}}, cached=False),
    get("key-bool", {"pk": {"BOOL": True}}, cached=False),
    get("key-untyped", {"pk": "types"}, cached=False),
    get("no-such-table", _key("a"), "nobody", cached=False),
    get("table-name-short", _key("a"), "x", cached=False),
    get("capacity-unknown", _key("types"), cached=False, ReturnConsumedCapacity="SOME"),
    get("consistent-text", _key("types"), cached=False, ConsistentRead="true"),
    get("consistent-number", _key("types"), cached=False, ConsistentRead=1),
    get("consistent-null", _key("types"), cached=False, ConsistentRead=None),
    get("consistent-true", _key("types"), cached=False, ConsistentRead=True),
    get(
        "consistent-capacity",
        _key("types"),
        cached=False,
        ConsistentRead=True,
        ReturnConsumedCapacity="TOTAL",
    ),
    get("unknown-member", _key("types"), cached=False, Nonsense=1),
    passed("no-key", Call("GetItem", {"TableName": "$hash"})),
    passed("no-table", Call("GetItem", {"Key": _key("types")})),
    raw_get("body-empty", b""),
    raw_get("body-blank", b"  "),
    raw_get("body-cut", b'{"TableName": "$hash", "Key"'),
    raw_get("body-array", b"[]"),
    raw_get("body-text", b'"text"'),
    raw_get("body-bom", b'\xef\xbb\xbf{"TableName": "$hash", "Key": {"pk": {"S": "types"}}}'),
    raw_get("body-bad-utf8", b'{"TableName": "$hash", "Key": {"pk": {"S": "\xff"}}}'),
    raw_get("body-nul", b'{"TableName": "$hash", "Key": {"pk": {"S": "types"}}}\x00'),
    raw_get(
        "member-twice",
        b'{"TableName": "$hash", "Key": {"pk": {"S": "no"}}, "Key": {"pk": {"S": "types"}}}',
    ),
    passed("target-unknown", Call("FlyToTheMoon", {})),
    passed("target-missing", Call("", {})),
    passed("target-other-service", Call("GetItem", {}, service="Nonsense_20120810")),
    passed("target-missing-unsigned", Call("", {}, signed=False)),
    passed("target-unknown-unsigned", Call("FlyToTheMoon", {}, signed=False)),
    passed("authorization-missing", Call("GetItem", {"TableName": "$hash"}, signed=False)),
]

PASSED: Final = [
    passed("list-tables", Call("ListTables", {})),
    passed("describe-table", Call("DescribeTable", {"TableName": "$range"})),
    passed(
        "query",
        Call(
            "Query",
            {
                "TableName": "$range",
                "KeyConditionExpression": "pk = :p AND sk > :s",
                "ExpressionAttributeValues": {":p": {"S": "a"}, ":s": {"N": "0"}},
                "Limit": 2,
                "ReturnConsumedCapacity": "TOTAL",
            },
        ),
    ),
    passed(
        "query-index",
        Call(
            "Query",
            {
                "TableName": "$range",
                "IndexName": "by-kind",
                "KeyConditionExpression": "kind = :k",
                "ExpressionAttributeValues": {":k": {"S": "k"}},
            },
        ),
    ),
    passed("query-refused", Call("Query", {"TableName": "$range"})),
    passed("scan", Call("Scan", {"TableName": "$range", "Limit": 3})),
    passed("scan-count", Call("Scan", {"TableName": "$range", "Select": "COUNT"})),
    passed("scan-segment", Call("Scan", {"TableName": "$range", "Segment": 0, "TotalSegments": 2})),
    passed(
        "transact-get",
        Call(
            "TransactGetItems",
            {"TransactItems": [{"Get": {"TableName": "$hash", "Key": _key("types")}}]},
        ),
    ),
    passed(
        "partiql-select",
        Call("ExecuteStatement", {"Statement": "SELECT * FROM \"$hash\" WHERE pk = 'types'"}),
    ),
    passed("streams", Call("ListStreams", {}, service="DynamoDBStreams_20120810")),
    passed("get-root", Call(method="GET", signed=False)),
    passed("get-path", Call(method="GET", path="/some/where?a=b", signed=False)),
    passed("options", Call(method="OPTIONS", signed=False, headers=(("Origin", "http://a.b"),))),
    passed("put-root", Call(method="PUT", body=b"x")),
    passed("delete-root", Call(method="DELETE")),
    passed("post-path", Call("ListTables", {}, path="/elsewhere")),
]

READ_CASES: Final = [*ITEM_READS, *PROJECTIONS, *REFUSALS, *PASSED]
