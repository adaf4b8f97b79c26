"""Claims about the names of records: one item one record, two items two records."""

from __future__ import annotations

import base64
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.attributes import NotCanonical, canonical_primary_key
from proxy.core.cache_key import KeySpace
from proxy.core.values import DIGEST_BYTES, TableName

KEYS = KeySpace("shop", "eu-west-1")
TABLE = TableName("orders")

NAMES = st.text("ab:#{}|\x00", min_size=1, max_size=4)
SMALL_NUMBERS = st.decimals(-999, 999, places=2, allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    st.builds(lambda text: {"S": text}, st.text("ab:#{}|\x00", min_size=1, max_size=6)),
    st.builds(lambda raw: {"B": base64.b64encode(raw).decode()}, st.binary(min_size=1, max_size=4)),
    st.builds(lambda number: {"N": str(number)}, SMALL_NUMBERS),
)
PRIMARY_KEYS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=2)


def meaning(primary_key: dict[str, Any]) -> frozenset[tuple[str, str, object]]:
    """Return what DynamoDB compares: names, types and values, not spellings."""
    return frozenset(
        (name, kind, Decimal(content) if kind == "N" else content)
        for name, value in primary_key.items()
        for kind, content in value.items()
    )


@given(PRIMARY_KEYS, PRIMARY_KEYS)
def test_two_keys_share_a_record_exactly_when_they_name_one_item(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    """Record and digest are equal for equal keys and differ for different ones."""
    first, second = KEYS.item(TABLE, one), KEYS.item(TABLE, two)
    same = meaning(one) == meaning(two)
    assert (first.cache_key == second.cache_key) is same
    assert (first.digest == second.digest) is same


@pytest.mark.parametrize("spelling", ["1", "1.0", "1e0", "01", "10E-1", "1.000", "0.1e1"])
def test_every_spelling_of_a_number_names_one_record(spelling: str) -> None:
    """`"1"` and `"1.0"` are one item to DynamoDB, so they are one entry."""
    assert KEYS.item(TABLE, {"pk": {"N": spelling}}) == KEYS.item(TABLE, {"pk": {"N": "1"}})


def test_binary_keys_are_compared_by_their_bytes() -> None:
    """A binary is neither its base64 text nor a string of the same characters."""
    texts = ["AA==", "AAA=", "AAAA", "/w=="]
    identities = {KEYS.item(TABLE, {"pk": {kind: text}}) for kind in "BS" for text in texts}
    assert len(identities) == 8


def test_the_order_of_attributes_does_not_matter() -> None:
    """JSON objects have no order."""
    one = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    two = {"sk": {"S": "b"}, "pk": {"S": "a"}}
    assert KEYS.item(TABLE, one) == KEYS.item(TABLE, two)


LOOK_ALIKES: list[dict[str, Any]] = [
    {"pk": {"S": "a:sk:b"}, "sk": {"S": "c"}},
    {"pk": {"S": "a"}, "sk": {"S": "b:sk:c"}},
    {"pk": {"S": "a"}, "sk": {"S": "b"}},
    {"pk": {"S": "b"}, "sk": {"S": "a"}},
    {"pk": {"S": "a\x00"}, "sk": {"S": "b"}},
    {"pk": {"S": "a"}, "sk": {"S": "\x00b"}},
    {"pk": {"S": "a:S:b"}},
    {"pk:S:a": {"S": "b"}},
    {"pk:sk": {"S": "a"}},
    {"pk": {"S": "1"}},
    {"pk": {"N": "1"}},
    {"pk": {"B": "MQ=="}},
    {"pk": {"S": "a"}},
    {"pk": {"S": "A"}},
    {"pk": {"S": "é"}},
    {"pk": {"S": "e\u0301"}},
    {"PK": {"S": "a"}},
]


@pytest.mark.parametrize(("one", "two"), [*combinations(LOOK_ALIKES, 2)])
def test_no_key_can_imitate_another(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Separators, types, case and Unicode forms inside names and values make different items."""
    first, second = KEYS.item(TABLE, one), KEYS.item(TABLE, two)
    assert first.cache_key != second.cache_key
    assert first.digest != second.digest


PARTS = st.text("ab:-1", min_size=1, max_size=4)


@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS))
def test_namespaces_regions_and_tables_are_apart(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    """The same key under another namespace, region or table is another item, with another table."""
    assume(one != two)
    first, second = (
        KeySpace(namespace, region).item(TableName(table), {"pk": {"S": "a"}})
        for namespace, region, table in (one, two)
    )
    assert first.cache_key != second.cache_key
    assert first.table_key != second.table_key
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "primary_key",
    [{}, {"pk": {"S": ""}}, {"pk": {"N": "x"}}, {"pk": {"BOOL": True}}, {"pk": {"B": "AB=="}}],
)
def test_a_key_that_dynamodb_may_refuse_has_no_name(primary_key: dict[str, Any]) -> None:
    """What is not certainly a key is never looked up."""
    with pytest.raises(NotCanonical):
        KEYS.item(TABLE, primary_key)


def test_names_of_records_have_one_length_and_carry_no_key() -> None:
    """Item keys of any size become a prefix, a hash tag and 16 hashed bytes."""
    prefix = b"ds:shop:"
    assert KEYS.prefix == prefix
    for text in ("a", "b" * 2000):
        identity = KEYS.item(TABLE, {"customer": {"S": text}})
        for name in (identity.cache_key, identity.table_key, KEYS.gate_key(b"incarnat")):
            tag, separator, hashed = name.removeprefix(prefix).partition(b":")
            assert name.startswith(prefix)
            assert separator
            assert len(hashed) == 16
            assert tag == b"{" + hashed[:2].hex().encode() + b"}"
        assert identity.cache_key.find(b"customer") == -1
        assert len(identity.digest) == DIGEST_BYTES


ITEM_NAME = b"ds:shop:{b74e}:" + bytes.fromhex("b74e2c48f003111b5893cbb33c73b7bc")
TABLE_NAME = b"ds:shop:{5d72}:" + bytes.fromhex("5d72ad29b770a04d679b6c5276f8ff60")
GATE_NAME = b"ds:shop:{8594}:" + bytes.fromhex("8594506b36adafa6a19c888b3fe405f6")
ITEM_DIGEST = bytes.fromhex("24aeb25808a0fd9c281cbc17a8ac5417")


def test_names_stay_the_same_from_release_to_release() -> None:
    """Proxies of two releases that share a store must fence and find the same records."""
    identity = KEYS.item(TABLE, {"pk": {"S": "a"}, "sk": {"N": "-1.50"}})
    assert identity.cache_key == ITEM_NAME
    assert identity.table_key == TABLE_NAME
    assert KEYS.gate_key(b"incarnat") == GATE_NAME
    assert KEYS.gate_key(b"incarnat", b"1f") == b"ds:shop:{1f}:" + GATE_NAME[-16:]
    assert identity.digest == ITEM_DIGEST


def test_kinds_of_records_never_share_a_name() -> None:
    """Items, pages, scopes, tables and incarnations of the same bytes have names of their own."""
    key = {"pk": {"S": "a"}}
    identity = KEYS.item(TABLE, key)
    partition, everything = identity.name_scopes()
    page = KEYS.page(TABLE, canonical_primary_key(key), everything)
    names = {identity.cache_key, identity.table_key, KEYS.gate_key(TABLE.encode()), partition}
    assert len(names | {everything, page.record.cache_key}) == 6
    assert page.record.digest != identity.digest
    assert page.record.table_key == identity.table_key
    assert page.scope_key == everything
    assert identity.table_key == KEYS.table_key(TABLE)
    assert identity.table == TABLE


def test_more_tables_than_a_region_can_have_cost_no_memory() -> None:
    """Names of tables are remembered up to AWS's own limit, and right beyond it."""
    keys = KeySpace("shop", "eu-west-1")
    for number in range(10_001):
        keys.table_key(TableName(f"t{number}"))
    assert len(keys._table_keys) == 10_000
    assert keys.table_key(TableName("t10000")) == KEYS.table_key(TableName("t10000"))


def test_an_item_is_in_the_scopes_of_its_key_attributes_and_of_its_table() -> None:
    """A writer's scopes are the ones that a reader finds from one attribute, however spelled."""
    scopes = KEYS.item(TABLE, {"pk": {"S": "a"}, "sk": {"N": "1.0"}}).name_scopes()
    assert scopes == (
        KEYS.partition_key(TABLE, "pk", {"S": "a"}),
        KEYS.partition_key(TABLE, "sk", {"N": "1"}),
        KEYS.scan_key(TABLE),
    )
    assert KEYS.item(TABLE, {"pk": {"S": "a"}}).name_scopes() == (scopes[0], scopes[2])


def test_scopes_of_other_tables_names_and_values_are_apart() -> None:
    """A scope is of one table, one attribute and one value."""
    other = TableName("others")
    names = {
        KEYS.partition_key(TABLE, "pk", {"S": "a"}),
        KEYS.partition_key(TABLE, "sk", {"S": "a"}),
        KEYS.partition_key(TABLE, "pk", {"S": "b"}),
        KEYS.partition_key(TABLE, "pk", {"B": "YQ=="}),
        KEYS.partition_key(other, "pk", {"S": "a"}),
        KEYS.scan_key(TABLE),
        KEYS.scan_key(other),
    }
    assert len(names) == 7


def test_pages_of_other_tables_and_requests_are_apart() -> None:
    """A page is of one table and one request; its scope is no part of its name."""
    scope = KEYS.scan_key(TABLE)
    page = KEYS.page(TABLE, b"request", scope)
    others = [KEYS.page(TableName("others"), b"request", scope), KEYS.page(TABLE, b"req", scope)]
    assert page.record.cache_key not in {other.record.cache_key for other in others}
    assert page.record.digest not in {other.record.digest for other in others}
    assert KEYS.page(TABLE, b"request", KEYS.scan_key(TableName("x"))).record == page.record


def test_a_tables_stream_and_parked_records_have_names_of_their_own() -> None:
    """Beside the table's record, and apart from other tables'."""
    names = [
        *(
            name(table)
            for name in (KEYS.table_key, KEYS.stream_key, KEYS.parked_key)
            for table in (TABLE, TableName("other"))
        ),
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith(KEYS.prefix) for name in names)
