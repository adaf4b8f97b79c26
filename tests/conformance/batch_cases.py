"""BatchGetItem requests that a client may send, over the items of `read_cases.ITEMS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tests.conformance.read_cases import DIGITS_38, ITEMS, ReadCase
from tests.support.dynamo_wire import Call, Json


def key(text: str) -> Json:
    """Return a primary key of table `hash`."""
    return {"pk": {"S": text}}


def keys(*texts: str) -> list[Json]:
    """Return primary keys of table `hash`."""
    return [key(text) for text in texts]


def batch(name: str, tables: Json, *, cached: bool = True, **more: Any) -> ReadCase:
    """Make a BatchGetItem; each table is given by its logical name."""
    asked = {f"${table}": part for table, part in tables.items()}
    return ReadCase(f"batch-{name}", Call("BatchGetItem", {"RequestItems": asked, **more}), cached)


def of_hash(name: str, wanted: Sequence[object], *, cached: bool = True, **wishes: Any) -> ReadCase:
    """Make a BatchGetItem of table `hash`."""
    return batch(name, {"hash": {"Keys": wanted, **wishes}}, cached=cached)


def raw(name: str, body: bytes) -> ReadCase:
    """Make a BatchGetItem with exactly these bytes, which only upstream can judge."""
    return ReadCase(f"batch-{name}", Call("BatchGetItem", body), cached=False)


RANGE: Final = [{"pk": {"S": "a"}, "sk": {"N": number}} for number in "012"]
BOTH: Final[Json] = {
    "hash": {"Keys": keys("types", "nested", "nobody")},
    "range": {"Keys": RANGE, "ProjectionExpression": "v"},
}
NESTED: Final = keys("nested", "types", "nobody")

ANSWERED: Final = [
    of_hash("one", keys("types")),
    of_hash("all", [{"pk": item["pk"]} for item in ITEMS["hash"]]),
    of_hash("some-missing", keys("nobody", "types", "none")),
    of_hash("all-missing", keys("nobody", "none")),
    of_hash("hundred", keys("types", *(f"nobody-{number}" for number in range(99)))),
    of_hash("consistent-false", keys("types"), ConsistentRead=False),
    batch("two-tables", BOTH),
    batch("range", {"range": {"Keys": RANGE}}),
    batch("key-order", {"range": {"Keys": [{"sk": {"N": "1"}, "pk": {"S": "a"}}, RANGE[0]]}}),
    batch("number", {"number": {"Keys": [{"pk": {"N": "1E3"}}, {"pk": {"N": DIGITS_38}}]}}),
    batch("binary", {"binary": {"Keys": [{"pk": {"B": "AAEC/w=="}}, {"pk": {"B": "AA=="}}]}}),
    of_hash("projection", NESTED, ProjectionExpression="a"),
    of_hash("projection-nested", NESTED, ProjectionExpression="a.b[0].c, a.b[2]"),
    of_hash("projection-with-key", NESTED, ProjectionExpression="pk, s"),
    of_hash("projection-nothing", NESTED, ProjectionExpression="x"),
    of_hash(
        "projection-names",
        NESTED,
        ProjectionExpression="#d, #n",
        ExpressionAttributeNames={"#d": "d.t", "#n": "name"},
    ),
    of_hash("attributes-to-get", NESTED, AttributesToGet=["name", "s"]),
    batch("capacity-none", {"hash": {"Keys": keys("types")}}, ReturnConsumedCapacity="NONE"),
    batch("capacity-total", BOTH, ReturnConsumedCapacity="TOTAL"),
    batch("capacity-indexes", BOTH, ReturnConsumedCapacity="INDEXES"),
]
"""Answered from the cache the second time."""

PASSED: Final = [
    of_hash("consistent", keys("types", "nobody"), cached=False, ConsistentRead=True),
    of_hash("twice", keys("a", "a"), cached=False),
    batch(
        "twice-1.0", {"number": {"Keys": [{"pk": {"N": "1"}}, {"pk": {"N": "1.0"}}]}}, cached=False
    ),
    of_hash("hundred-one", keys(*(f"k-{number}" for number in range(101))), cached=False),
    of_hash("no-keys", [], cached=False),
    batch("no-tables", {}, cached=False),
    batch(
        "no-such-table",
        {"hash": {"Keys": keys("types")}, "nobody": {"Keys": keys("a")}},
        cached=False,
    ),
    of_hash("key-wrong-type", [key("types"), {"pk": {"N": "1"}}], cached=False),
    of_hash("key-other-name", [{"id": {"S": "a"}}], cached=False),
    of_hash("keys-of-two-names", [key("types"), {"id": {"S": "a"}}], cached=False),
    of_hash("key-extra", [{"pk": {"S": "a"}, "x": {"S": "y"}}], cached=False),
    of_hash("key-empty-text", keys("types", ""), cached=False),
    of_hash("key-untyped", [key("types"), {"pk": "a"}], cached=False),
    of_hash("key-list", [key("types"), {"pk": {"L": [{"S": "a"}]}}], cached=False),
    of_hash("key-bool", [key("types"), {"pk": {"BOOL": True}}], cached=False),
    of_hash("projection-overlap", NESTED, cached=False, ProjectionExpression="a, a.b"),
    of_hash("projection-reserved", NESTED, cached=False, ProjectionExpression="name"),
    of_hash(
        "projection-both-kinds",
        NESTED,
        cached=False,
        ProjectionExpression="a",
        AttributesToGet=["a"],
    ),
    of_hash("consistent-text", keys("types"), cached=False, ConsistentRead="true"),
    of_hash("unknown-member", keys("types"), cached=False, Nonsense=1),
    batch(
        "capacity-unknown",
        {"hash": {"Keys": keys("types")}},
        cached=False,
        ReturnConsumedCapacity="SOME",
    ),
    raw("no-members", b"{}"),
    raw("cut", b'{"RequestItems": {"$hash": {"Keys"'),
    raw(
        "table-twice",
        b'{"RequestItems": {"$hash": {"Keys": [{"pk": {"S": "types"}}]},'
        b' "$hash": {"Keys": [{"pk": {"S": "nested"}}]}}}',
    ),
]
"""Never answered from the cache."""

MIXED: Final = batch(
    "consistent-beside",
    {
        "hash": {"Keys": keys("types", "nobody")},
        "number": {"Keys": [{"pk": {"N": "1000"}}], "ConsistentRead": True},
    },
    cached=False,
)
"""One table is answered from the cache, the other one never."""

BATCH_CASES: Final = [*ANSWERED, *PASSED, MIXED]
