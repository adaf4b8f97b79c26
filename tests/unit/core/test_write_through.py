"""Claims about write-through: the written item becomes the entry only when it is sure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.operations import ItemWrite
from proxy.core.request import ClientRequest, Headers
from proxy.core.responses import EMPTY_BODY, FetchedBody
from proxy.core.values import TableName
from proxy.core.write_through import asking_for_new_item, item_after, without_attributes

KEY = {"pk": {"S": "a"}}


def write(
    operation: str, *, item: dict[str, Any] | None = None, return_values: str = "NONE"
) -> ItemWrite:
    """Return a decoded write."""
    key = None if operation == "PutItem" else KEY
    return ItemWrite(operation, TableName("orders"), key, item, return_values)


def test_after_a_delete_there_is_no_item() -> None:
    """Whatever the answer shows of the old one."""
    reply = b'{"Attributes":{"pk":{"S":"a"}}}'
    after = item_after(write("DeleteItem", return_values="ALL_OLD"), reply)
    assert after == FetchedBody(EMPTY_BODY, None, None)


PLAIN = {
    "pk": {"S": "é"},
    "n": {"N": "-1.5"},
    "b": {"B": "AA=="},
    "l": {"L": [{"NULL": True}, {"M": {"x": {"BOOL": False}}}]},
    "empty": {"S": ""},
}


def test_a_plain_item_is_read_back_as_it_was_put() -> None:
    """Its entry is what DynamoDB itself would answer."""
    after = item_after(write("PutItem", item=PLAIN), b"{}")
    assert after is not None
    assert after.item == PLAIN
    assert json.loads(after.body) == {"Item": PLAIN}
    assert after.body.startswith('{"Item":{"pk":{"S":"é"},'.encode())
    assert after.consumed is None


@pytest.mark.parametrize(
    "odd",
    [
        {"n": {"N": "1.0"}},
        {"n": {"N": "1e3"}},
        {"n": {"N": "-0"}},
        {"ss": {"SS": ["b", "a"]}},
        {"ns": {"NS": ["1"]}},
        {"l": {"L": [{"N": "01"}]}},
        {"m": {"M": {"x": {"BS": ["AA=="]}}}},
        {"s": {"S": "\ud800"}},
        {"\ud800": {"S": "a"}},
        {"": {"S": "a"}},
        {"x": {"S": "a", "N": "1"}},
        {"x": "a"},
        {"x": {"Q": "a"}},
    ],
)
def test_an_item_that_may_come_back_otherwise_is_not_stored(odd: dict[str, Any]) -> None:
    """DynamoDB re-spells numbers and orders sets; names count as much as values."""
    assert item_after(write("PutItem", item=PLAIN | odd), b"{}") is None


def test_a_put_without_an_item_is_not_stored() -> None:
    """DynamoDB has refused it, or what it took is not known."""
    assert item_after(write("PutItem"), b"{}") is None


NEW = '{ "pk":{"S":"a"}, "n":{"N":"\\u0031"} }'


def test_an_update_that_returns_the_new_item_is_taken_byte_for_byte() -> None:
    """The answer is DynamoDB's own spelling; what else it carries stays out."""
    reply = f'{{"ConsumedCapacity":{{}},"Attributes":{NEW}}}'.encode()
    after = item_after(write("UpdateItem", return_values="ALL_NEW"), reply)
    assert after == FetchedBody(b'{"Item":' + NEW.encode() + b"}", json.loads(NEW), None)


@pytest.mark.parametrize(
    "return_values", ["NONE", "ALL_OLD", "UPDATED_NEW", "UPDATED_OLD", "all_new"]
)
def test_an_update_that_returns_less_is_not_stored(return_values: str) -> None:
    """Part of an item, or the one before, is not the item."""
    reply = f'{{"Attributes":{NEW}}}'.encode()
    assert item_after(write("UpdateItem", return_values=return_values), reply) is None


@pytest.mark.parametrize(
    "reply", [b"", b"{}", b"\xff", b'{"Attributes":null}', b'{"Attributes":[]}']
)
def test_an_update_whose_answer_lacks_the_item_is_not_stored(reply: bytes) -> None:
    """What cannot be read is fetched again by the next reader."""
    assert item_after(write("UpdateItem", return_values="ALL_NEW"), reply) is None


def test_another_operation_is_not_stored() -> None:
    """Only the three writes of one item have a known result."""
    assert item_after(write("BatchWriteItem", return_values="ALL_NEW"), b"{}") is None


VALUES = st.recursive(
    st.sampled_from(
        [{"S": "a"}, {"N": "1"}, {"N": "1.0"}, {"BOOL": True}, {"NULL": True}, {"SS": ["a"]}, 5]
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda each: {"L": each})
        | st.dictionaries(st.text("a\ud800", max_size=1), inner, max_size=2).map(
            lambda each: {"M": each}
        )
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(st.text("a\ud800", max_size=1), VALUES, max_size=3),
    st.binary(max_size=20) | VALUES.map(lambda value: json.dumps({"Attributes": value}).encode()),
    st.sampled_from(["PutItem", "UpdateItem", "DeleteItem"]),
)
def test_the_entry_always_says_what_it_holds(
    item: dict[str, Any], reply: bytes, operation: str
) -> None:
    """Body and item agree, and nothing is raised, whatever was written or answered."""
    after = item_after(write(operation, item=item, return_values="ALL_NEW"), reply)
    if after is not None:
        assert json.loads(after.body) == ({} if after.item is None else {"Item": after.item})


UPDATE = ' { "TableName" : "t", "Key":{"pk":{"S":"\\u00e9"}} }\n'


def asked(body: str, *headers: tuple[str, str]) -> ClientRequest | None:
    """Upgrade an UpdateItem."""
    return asking_for_new_item(ClientRequest("POST", "/", headers, body.encode()))


@pytest.mark.parametrize(
    ("body", "upgraded"),
    [
        (UPDATE, UPDATE.replace("}} }", '}},"ReturnValues":"ALL_NEW" }')),
        ('{"ReturnValues": "NONE" ,"a":"b"}', '{"ReturnValues": "ALL_NEW" ,"a":"b"}'),
        ('{"a":{"ReturnValues":"x"}}', '{"a":{"ReturnValues":"x"},"ReturnValues":"ALL_NEW"}'),
    ],
)
def test_an_update_is_asked_for_its_result(body: str, upgraded: str) -> None:
    """Nothing else of its body is spelled anew."""
    request = asked(body)
    assert request is not None
    assert request.body.decode() == upgraded


def test_the_answer_of_an_upgraded_update_is_not_compressed() -> None:
    """Its item must be readable; all other header fields stay as they are."""
    headers: Headers = (("X-A", "1"), ("accept-Encoding", "gzip"), ("X-B", "2"))
    request = asked(UPDATE, *headers)
    assert request is not None
    assert request.headers == (("X-A", "1"), ("X-B", "2"))


@pytest.mark.parametrize(
    "body",
    [
        '{"ReturnValues":"ALL_NEW","TableName":"t"}',
        '{"ReturnValues":"UPDATED_OLD"}',
        '{"ReturnValues":null}',
        '{"ReturnValues":"NO\\u004eE"}',
        '{"ReturnValues":"NONE","ReturnValues":"NONE"}',
        "{}",
        "[]",
        "{",
    ],
)
def test_an_update_that_asks_for_something_stays_as_it_is(body: str) -> None:
    """So does what is not understood."""
    assert asked(body) is None


@pytest.mark.parametrize(
    "name", ["Content-Encoding", "Content-MD5", "Digest", "Content-Digest", "x-amz-checksum-crc32"]
)
def test_an_update_whose_header_speaks_of_its_bytes_stays_as_it_is(name: str) -> None:
    """Another body would not fit it."""
    assert asked(UPDATE, (name, "x")) is None


def test_a_body_that_is_no_text_stays_as_it_is() -> None:
    """Upstream judges it."""
    assert asking_for_new_item(ClientRequest("POST", "/", (), b"\xff")) is None


CAPACITY = '"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.0}'


@pytest.mark.parametrize(
    ("reply", "bare"),
    [
        ('{"Attributes":{"pk":{"S":"a"}}}', "{}"),
        (f'{{"Attributes":{{}},{CAPACITY}}}', f"{{{CAPACITY}}}"),
        (f'{{{CAPACITY},"Attributes":{{}}}}', f"{{{CAPACITY}}}"),
        (f'{{{CAPACITY},"Attributes":{{}},"x":1}}', f'{{{CAPACITY},"x":1}}'),
        ('{ "Attributes" : {"a": 1} , "x": 1, "y": 2 }', '{ "x": 1, "y": 2 }'),
        ('{"x": 1, "Attributes": {"a": 1}, "y": 2}', '{"x": 1, "y": 2}'),
        (' { "Attributes": {} } ', "{}"),
    ],
)
def test_the_item_is_taken_out_of_an_answer(reply: str, bare: str) -> None:
    """What is left is what DynamoDB would have answered."""
    assert without_attributes(reply.encode()) == bare.encode()


@pytest.mark.parametrize(
    "reply", [b"{}", b"", b"\xff", b'{"Attributes":{},"Attributes":{}}', b'{"Attributes":{}']
)
def test_an_answer_without_one_item_is_not_taken_apart(reply: bytes) -> None:
    """It was not what was asked for."""
    assert without_attributes(reply) is None
