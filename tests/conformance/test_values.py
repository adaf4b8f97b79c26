"""Whatever an attribute value or a key looks like, it is read back as the engine itself shows it.

Every value is written and read directly and through the proxy, and the spelling is compared.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.conformance.pair import Pair
from tests.conformance.value_cases import (
    ALL_VALUES,
    KIB,
    LOOK_ALIKES,
    SAME_NUMBERS,
    SIZES,
    sized_item,
)
from tests.support.dynamo_wire import Call, Json, Reply

MODES = {"invalidate": "hash", "through": "through"}
ITEM_BYTES_MAX = 400 * KIB


class Item:
    """One item by its way: directly, or through the proxy."""

    def __init__(self, pair: Pair, table: str, item_id: str, *, direct: bool) -> None:
        self._ask = pair.ask_engine if direct else pair.ask_proxy
        self._table = f"${table}"
        self.item_id = item_id

    def put(self, item: Json) -> tuple[int, bytes]:
        """Put it; return status and body."""
        return self._plain(Call("PutItem", {"TableName": self._table, "Item": item}))

    def update(self, value: Json) -> tuple[int, bytes]:
        """Set its attribute `v` and have it shown whole."""
        body = {
            "TableName": self._table,
            "Key": {"pk": {"S": self.item_id}},
            "UpdateExpression": "SET v = :v",
            "ExpressionAttributeValues": {":v": value},
            "ReturnValues": "ALL_NEW",
        }
        return self._plain(Call("UpdateItem", body))

    def read(self) -> Reply:
        """Read it."""
        key = {"pk": {"S": self.item_id}}
        return self._ask(Call("GetItem", {"TableName": self._table, "Key": key}))

    def shown(self) -> tuple[int, bytes]:
        """Read it; return status and body without its own id."""
        return self._without_id(self.read())

    def _plain(self, call: Call) -> tuple[int, bytes]:
        return self._without_id(self._ask(call))

    def _without_id(self, reply: Reply) -> tuple[int, bytes]:
        assert reply.crc_is_right
        return reply.status, reply.body.replace(self.item_id.encode(), b"$id")


def meaning(shown: tuple[int, bytes]) -> tuple[int, Any]:
    """Return an answer without the blanks between its members, which JSON leaves open."""
    status, body = shown
    return status, json.loads(body)


def assert_same(mode: str, shown: tuple[int, bytes], expected: tuple[int, bytes]) -> None:
    """Compare the very bytes, or, for entries that the proxy wrote itself, every spelling in it."""
    if mode == "through":
        assert meaning(shown) == meaning(expected)
    else:
        assert shown == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("write", ["put", "update"])
@pytest.mark.parametrize("name", ALL_VALUES)
def test_value_is_written_and_read_as_directly(
    cold_pair: Pair, name: str, write: str, mode: str
) -> None:
    """The write's answer and every read after it are the engine's, refusals included."""
    value, mark = ALL_VALUES[name], uuid.uuid4().hex[:8]
    theirs = Item(cold_pair, MODES[mode], f"d-{mark}", direct=True)
    ours = Item(cold_pair, MODES[mode], f"p-{mark}", direct=False)
    behind = Item(cold_pair, MODES[mode], ours.item_id, direct=True)
    for item in (theirs, ours):
        assert item.put({"pk": {"S": item.item_id}, "v": {"S": "before"}})[0] == 200
    ours.read()

    answers = [
        item.update(value)
        if write == "update"
        else item.put({"pk": {"S": item.item_id}, "v": value})
        for item in (theirs, ours)
    ]

    assert answers[1] == answers[0]
    expected = theirs.shown()
    assert behind.shown() == expected
    for _ in ("cold", "warm"):
        assert_same(mode, ours.shown(), expected)
    if answers[0][0] < 500:  # an engine that broke may have written: then nothing is cached
        assert "; hit" in ours.read().cache_status


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("name", SIZES)
def test_largest_item_is_written_and_read_as_directly(
    cold_pair: Pair, name: str, over: int, mode: str
) -> None:
    """400 KiB by DynamoDB's rules are cached; of one byte more the engine is the judge."""
    mark = uuid.uuid4().hex[:8]
    theirs = Item(cold_pair, MODES[mode], f"d-{mark}", direct=True)
    ours = Item(cold_pair, MODES[mode], f"p-{mark}", direct=False)
    direct, proxied = (
        item.put(sized_item(item.item_id, SIZES[name], ITEM_BYTES_MAX + over))
        for item in (theirs, ours)
    )
    assert proxied == direct
    expected = theirs.shown()
    for _ in ("cold", "warm"):
        assert_same(mode, ours.shown(), expected)


@pytest.mark.parametrize("table", LOOK_ALIKES)
def test_keys_that_look_alike_are_different_items(cold_pair: Pair, table: str) -> None:
    """Each is read, cold and warm, as the item that was written under exactly this key."""
    keys = LOOK_ALIKES[table]
    for number, key in enumerate(keys):
        item = {"pk": key, "v": {"N": str(number)}}
        reply = cold_pair.ask_proxy(Call("PutItem", {"TableName": f"${table}", "Item": item}))
        assert reply.status == 200, (key, reply.content)
    found = 0
    for step in ("cold", "warm"):
        for number, key in enumerate(keys):
            call = Call("GetItem", {"TableName": f"${table}", "Key": {"pk": key}})
            proxied, direct = cold_pair.ask_proxy(call), cold_pair.ask_engine(call)
            assert proxied.body == direct.body, key
            if "Item" in direct.content:  # one engine does not find its own smallest numbers
                assert proxied.content["Item"]["v"] == {"N": str(number)}, key
                found += 1
            assert ("; hit" in proxied.cache_status) == (step == "warm"), key
    assert found > len(keys)


@pytest.mark.parametrize("spellings", SAME_NUMBERS, ids=lambda texts: texts[0][:12])
def test_spellings_of_one_number_are_one_item(cold_pair: Pair, spellings: list[str]) -> None:
    """A write under any spelling is seen by reads under all, although each was cached before."""
    if cold_pair.engine == "dynamodb":
        # To this engine every spelling is a key of its own, which it is not to DynamoDB.
        cold_pair.put("number", {"pk": {"N": spellings[0]}, "v": {"S": "x"}})
        other = {"TableName": "$number", "Key": {"pk": {"N": spellings[1]}}}
        assert "Item" not in cold_pair.ask_engine(Call("GetItem", other)).content
        return

    def shown(text: str) -> Any:
        call = Call("GetItem", {"TableName": "$number", "Key": {"pk": {"N": text}}})
        proxied = cold_pair.ask_proxy(call)
        assert proxied.body == cold_pair.ask_engine(call).body, text
        return proxied.content["Item"]["v"]["S"]

    for written in spellings:
        item = {"pk": {"N": written}, "v": {"S": written}}
        reply = cold_pair.ask_proxy(Call("PutItem", {"TableName": "$number", "Item": item}))
        assert reply.status == 200, reply.content
        assert [shown(text) for text in spellings] == [written] * len(spellings)


@pytest.mark.parametrize("text", ["+1", "+1.0", "1_0", " 1", "\uff11", "1e", "0x1"])
def test_doubtful_spelling_of_a_number_is_the_engines_to_judge(cold_pair: Pair, text: str) -> None:
    """Although the number that it may stand for is cached, the answer is the engine's own."""
    cold_pair.put("number", {"pk": {"N": "1"}, "v": {"S": "one"}})
    usual, doubtful = (
        Call("GetItem", {"TableName": "$number", "Key": {"pk": {"N": spelled}}})
        for spelled in ("1", text)
    )
    cold_pair.ask_proxy(usual)
    assert "; hit" in cold_pair.ask_proxy(usual).cache_status
    proxied, direct = cold_pair.ask_proxy(doubtful), cold_pair.ask_engine(doubtful)
    assert (proxied.status, proxied.body) == (direct.status, direct.body)


def test_escaped_and_plain_spellings_of_a_key_are_one_item(cold_pair: Pair) -> None:
    """JSON may write a character as itself or as escapes; the entry is the same."""
    plain = '{"TableName": "$hash", "Key": {"pk": {"S": "é🎉/\x7f"}}}'.encode()
    escaped = rb'{"TableName": "$hash", "Key": {"\u0070k": {"S": "\u00e9\ud83c\udf89\/\u007f"}}}'
    item = {"pk": {"S": "é🎉/\x7f"}, "v": {"S": "x"}}
    cold_pair.put("hash", item)
    direct = cold_pair.ask_engine(Call("GetItem", plain))
    assert direct.content["Item"] == item
    first, second = (cold_pair.ask_proxy(Call("GetItem", body)) for body in (plain, escaped))
    assert first.body == second.body == direct.body
    assert "; hit" in second.cache_status
