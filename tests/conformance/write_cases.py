"""Writes that a client may send, with the item they meet; `$id` is the primary key's value."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.read_cases import DIGITS_38
from tests.support.dynamo_wire import Call, Json

KEY: Final[Json] = {"pk": {"S": "$id"}}
BEFORE: Final[Json] = {**KEY, "n": {"N": "1"}, "s": {"S": "before"}, "set": {"SS": ["a", "b"]}}
VALUES: Final[Json] = {":n": {"N": "5"}, ":s": {"S": "after"}, ":a": {"SS": ["a"]}}


@dataclass(frozen=True)
class WriteCase:
    """One write.

    Args:
        name: says what is special about it.
        call: as the client sends it.
        before: the item it meets, or None for a place where none is.
    """

    name: str
    call: Call
    before: Json | None = None


def _write(name: str, operation: str, before: Json | None = None, **members: Any) -> WriteCase:
    body: Json = {"TableName": "$table", **members}
    return WriteCase(name, Call(operation, body), before)


def put(name: str, item: Json, before: Json | None = None, **more: Any) -> WriteCase:
    """Make a PutItem."""
    return _write(f"put-{name}", "PutItem", before, Item=item, **more)


def update(
    name: str, expression: str, before: Json | None = BEFORE, *, uses: str = "", **more: Any
) -> WriteCase:
    """Make an UpdateItem; `uses` names those of VALUES that occur in its expressions."""
    if uses:
        more["ExpressionAttributeValues"] = {f":{each}": VALUES[f":{each}"] for each in uses}
    if expression:
        more["UpdateExpression"] = expression
    return _write(f"update-{name}", "UpdateItem", before, **({"Key": KEY} | more))


def delete(name: str, before: Json | None = BEFORE, **more: Any) -> WriteCase:
    """Make a DeleteItem."""
    return _write(f"delete-{name}", "DeleteItem", before, **({"Key": KEY} | more))


NEVER: Final[Json] = {"ConditionExpression": "attribute_exists(nobody)"}
CAPACITY: Final[Json] = {"ReturnConsumedCapacity": "TOTAL"}
ASKED: Final[dict[str, Json]] = {
    "none": {"ReturnValues": "NONE"},
    "old": {"ReturnValues": "UPDATED_OLD"},
    "new": {"ReturnValues": "ALL_NEW"},
    "capacity": CAPACITY,
    "indexes": {"ReturnConsumedCapacity": "INDEXES"},
    "metrics": {"ReturnItemCollectionMetrics": "SIZE"},
    "no-capacity": {"ReturnConsumedCapacity": "NONE"},
    "no-metrics": {"ReturnItemCollectionMetrics": "NONE"},
}
LARGE: Final[Json] = {**BEFORE, "s": {"S": "x" * 20_000}}
SHOWING: Final[Json] = {**NEVER, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
HOLDING: Final[Json] = {**SHOWING, "ConditionExpression": "attribute_not_exists(nobody)"}
ODD: Final[Json] = {
    **KEY,
    "odd": {"N": "1.0"},
    "long": {"N": DIGITS_38},
    "exponent": {"N": "1e3"},
    "small": {"N": "1E-130"},
    "set": {"NS": ["2.0", "1.0"]},
}
TYPES: Final[Json] = {
    **KEY,
    "s": {"S": "𝄞\u2028"},
    "n": {"N": "-1.5"},
    "b": {"B": "AAEC/w=="},
    "bool": {"BOOL": False},
    "null": {"NULL": True},
    "l": {"L": [{"M": {"x": {"L": [{"S": ""}]}}}]},
    "m": {"M": {}},
    "ss": {"SS": ["z", "a"]},
    "bs": {"BS": ["AQ==", "AA=="]},
    "ns": {"NS": ["3", "1"]},
}

ITEM_WRITES: Final = [
    put("new", {**KEY, "s": {"S": "new"}}),
    put("only-key", KEY, BEFORE),
    put("replace", {**KEY, "s": {"S": "after"}}, BEFORE),
    put("return-old", {**KEY, "s": {"S": "after"}}, BEFORE, ReturnValues="ALL_OLD"),
    put("return-old-of-none", {**KEY, "s": {"S": "after"}}, ReturnValues="ALL_OLD"),
    put("odd-spellings", ODD, BEFORE),
    put("all-types", TYPES, BEFORE),
    put("empty-values", {**KEY, "s": {"S": ""}, "b": {"B": ""}}, BEFORE),
    put("large", {**KEY, "s": {"S": "x" * (390 * 1024)}}, BEFORE),
    put("capacity", {**KEY, "s": {"S": "x"}}, BEFORE, ReturnConsumedCapacity="TOTAL"),
    put(
        "condition-holds", {**KEY, "s": {"S": "x"}}, ConditionExpression="attribute_not_exists(pk)"
    ),
    put("condition-fails", {**KEY, "s": {"S": "x"}}, BEFORE, **NEVER),
    put("condition-fails-showing", {**KEY, "s": {"S": "x"}}, BEFORE, **SHOWING),
    put("condition-fails-on-nothing", {**KEY, "s": {"S": "x"}}, None, **SHOWING),
    put("expected-fails", {**KEY}, BEFORE, Expected={"s": {"Value": {"S": "other"}}}),
    update("creates", "SET n = :n", None, uses="n"),
    update("creates-returning", "SET n = :n", None, uses="n", ReturnValues="ALL_NEW"),
    update("creates-key-only", "", None),
    *(
        update(f"return-{wish.lower()}", "SET n = n + :n, s = :s", uses="ns", ReturnValues=wish)
        for wish in ("NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW")
    ),
    *(
        update(
            f"asks-{'-'.join(wishes)}",
            "SET n = n + :n",
            uses="n",
            **{name: wish for part in wishes for name, wish in ASKED[part].items()},
        )
        for wishes in (
            ("capacity",),
            ("indexes",),
            ("metrics",),
            ("capacity", "metrics"),
            ("none", "capacity"),
            ("old", "capacity"),
            ("new", "capacity"),
            ("no-capacity", "no-metrics"),
        )
    ),
    update("compressed-answer-of-none", "SET n = :n", LARGE, uses="n"),
    update("odd-spellings", "SET odd = :odd", ExpressionAttributeValues={":odd": {"N": "1.0"}}),
    update("same-again", "SET n = :n", {**BEFORE, "n": {"N": "5"}}, uses="n"),
    update("condition-fails-capacity", "SET n = :n", uses="n", **SHOWING, **CAPACITY),
    update("condition-holds-showing", "SET n = :n", uses="n", **HOLDING),
    update("condition-on-nothing-showing", "SET n = :n", None, uses="n", **SHOWING),
    update("remove", "REMOVE s", ReturnValues="ALL_NEW"),
    update("add", "ADD n :n", uses="n", ReturnValues="ALL_NEW"),
    update("delete-of-set", "DELETE #set :a", uses="a", ExpressionAttributeNames={"#set": "set"}),
    update("condition-fails", "SET n = :n", uses="n", **NEVER),
    update("condition-fails-showing", "SET n = :n", uses="n", **SHOWING),
    update(
        "legacy-updates",
        "",
        AttributeUpdates={"n": {"Value": {"N": "2"}, "Action": "PUT"}},
        ReturnValues="ALL_NEW",
    ),
    delete("existing"),
    delete("missing", None),
    delete("return-old", ReturnValues="ALL_OLD"),
    delete("condition-fails", **NEVER),
    delete("condition-fails-showing", **SHOWING),
]

REFUSED_WRITES: Final = [
    put("too-large", {**KEY, "s": {"S": "x" * (401 * 1024)}}, BEFORE),
    put("no-key", {"s": {"S": "x"}}),
    put("key-of-wrong-type", {"pk": {"N": "1"}}),
    put("empty-key", {"pk": {"S": ""}}),
    put("bad-number", {**KEY, "n": {"N": "one"}}, BEFORE),
    put("bad-return", {**KEY}, BEFORE, ReturnValues="ALL_NEW"),
    put("untyped", {**KEY, "s": "text"}, BEFORE),
    update("key-attribute", "SET pk = :s", uses="s"),
    update("syntax", "SET SET", BEFORE),
    update("unused-value", "REMOVE s", uses="n"),
    update("bad-return", "REMOVE s", ReturnValues="SOME"),
    update("return-of-wrong-type", "REMOVE s", ReturnValues=1),
    update("bad-capacity", "REMOVE s", ReturnConsumedCapacity="SOME"),
    update("key-lacking", "REMOVE s", Key={}),
    update("of-wrong-type", "SET n = s + :n", uses="n"),
    delete("key-extra", Key={**KEY, "x": {"S": "y"}}),
    delete("key-lacking", Key={}),
    WriteCase("put-no-table", Call("PutItem", {"Item": KEY})),
    WriteCase("put-unknown-table", Call("PutItem", {"TableName": "nobody", "Item": KEY})),
    WriteCase("put-no-item", Call("PutItem", {"TableName": "$table"}), BEFORE),
    WriteCase("put-empty-body", Call("PutItem", b""), BEFORE),
    WriteCase("put-cut-body", Call("PutItem", b'{"TableName": "$table", "It'), BEFORE),
    WriteCase("put-array", Call("PutItem", b"[]"), BEFORE),
    WriteCase("put-unsigned", Call("PutItem", {"TableName": "$table"}, signed=False), BEFORE),
    WriteCase(
        "put-member-twice",
        Call(
            "PutItem",
            b'{"TableName": "$table", "Item": {"pk": {"S": "x"}}, "Item": {"pk": {"S": "$id"}}}',
        ),
        BEFORE,
    ),
    WriteCase(
        "put-coding-unknown",
        Call("PutItem", {"TableName": "$table", "Item": KEY}, (("Content-Encoding", "snappy"),)),
        BEFORE,
    ),
]


def transact(*actions: Json) -> Call:
    """Make a TransactWriteItems."""
    return Call("TransactWriteItems", {"TransactItems": actions})


BATCH_WRITES: Final = [
    WriteCase(
        "batch-put",
        Call(
            "BatchWriteItem",
            {"RequestItems": {"$table": [{"PutRequest": {"Item": {**KEY, "s": {"S": "b"}}}}]}},
        ),
        BEFORE,
    ),
    WriteCase(
        "batch-delete",
        Call("BatchWriteItem", {"RequestItems": {"$table": [{"DeleteRequest": {"Key": KEY}}]}}),
        BEFORE,
    ),
    WriteCase("batch-empty", Call("BatchWriteItem", {"RequestItems": {}}), BEFORE),
    *(
        WriteCase(
            f"transact-{name}",
            Call(
                "TransactWriteItems", {"TransactItems": [{kind: {"TableName": "$table", **action}}]}
            ),
            BEFORE,
        )
        for name, kind, action in (
            ("put", "Put", {"Item": {**KEY, "s": {"S": "t"}}}),
            (
                "update",
                "Update",
                {
                    "Key": KEY,
                    "UpdateExpression": "SET s = :s",
                    "ExpressionAttributeValues": {":s": {"S": "t"}},
                },
            ),
            ("delete", "Delete", {"Key": KEY}),
            ("check-fails", "ConditionCheck", {"Key": KEY, **NEVER}),
            ("put-fails", "Put", {"Item": KEY, **SHOWING}),
        )
    ),
    *(
        WriteCase(
            f"partiql-{name}",
            Call("ExecuteStatement", {"Statement": statement}),
            before,
        )
        for name, statement, before in (
            ("insert", "INSERT INTO \"$table\" VALUE {'pk': '$id', 's': 'p'}", None),
            ("update", "UPDATE \"$table\" SET s='p' WHERE pk='$id'", BEFORE),
            ("delete", "DELETE FROM \"$table\" WHERE pk='$id'", BEFORE),
            ("bare-name", "UPDATE $table SET s='p' WHERE pk='$id'", BEFORE),
            ("syntax", "DESTROY EVERYTHING", BEFORE),
        )
    ),
]


def gzipped(case: WriteCase) -> WriteCase:
    """Return a write that is sent compressed; its placeholders are filled in before."""
    headers = (("Content-Encoding", "gzip"),)
    return WriteCase(f"gzip-{case.name}", Call(case.call.operation, case.call.raw_body, headers))


def compressed(call: Call) -> Call:
    """Compress the body of a call that says it is."""
    if ("Content-Encoding", "gzip") not in call.headers:
        return call
    return Call(call.operation, gzip.compress(call.raw_body, mtime=0), call.headers)


WRITE_CASES: Final = [
    *ITEM_WRITES,
    *REFUSED_WRITES,
    *BATCH_WRITES,
    gzipped(put("new", {**KEY, "s": {"S": "new"}})),
]
