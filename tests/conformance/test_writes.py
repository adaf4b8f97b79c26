"""Whatever a client writes, it gets the engine's own answer, and reads what it wrote.

What may differ stands in `accepted_differences.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conformance.accepted_differences import Step, accepted
from tests.conformance.comparison import assert_conforms
from tests.conformance.pair import Pair
from tests.conformance.write_cases import WRITE_CASES, WriteCase, compressed
from tests.support.dynamo_wire import Call, Json, Reply, ask

MODES = {"invalidate": "hash", "through": "through"}
KNOWN_AFTERWARDS = {
    "put-new",
    "put-replace",
    "update-return-all_new",
    "update-creates",
    "update-creates-returning",
    "update-creates-key-only",
    "update-return-none",
    "update-asks-capacity",
    "update-asks-capacity-metrics",
    "update-delete-of-set",
    "update-odd-spellings",
    "update-condition-holds-showing",
    "batch-delete",
    "batch-put",
    "delete-existing",
}
"""Writes after which the whole item is certain, so that write-through stores it."""


class Side:
    """One way to the table, with an item of its own.

    Args:
        endpoint: the engine's or the proxy's.
        table: the table's real name.
        item_id: the item's key; both sides' are of one length, so that they cost the same.
    """

    def __init__(self, endpoint: str, table: str, item_id: str) -> None:
        self._endpoint = endpoint
        self._names = {"table": table, "id": item_id}

    def send(self, call: Call) -> Reply:
        """Send a call about this side's item; the answer names the item `$id`."""
        reply = ask(self._endpoint, compressed(call.naming(self._names)))
        assert reply.crc_is_right
        headers = {name: text for name, text in reply.headers.items() if name != "x-amz-crc32"}
        body = reply.body.replace(self._names["id"].encode(), b"$id")
        return replace(reply, headers=headers, body=body)

    def put(self, item: Json) -> None:
        """Put the item."""
        reply = self.send(Call("PutItem", {"TableName": "$table", "Item": item}))
        assert reply.status == 200, reply.content

    def read(self, *, consistent: bool = False) -> Reply:
        """Read the item."""
        body: Json = {"TableName": "$table", "Key": {"pk": {"S": "$id"}}}
        if consistent:
            body["ConsistentRead"] = True
        return self.send(Call("GetItem", body))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", WRITE_CASES, ids=lambda case: case.name)
def test_write_is_answered_and_read_back_as_by_the_engine(
    cold_pair: Pair, case: WriteCase, mode: str
) -> None:
    """The answer is the engine's; a read right after shows the new state, not the cached one."""
    table = cold_pair.names[MODES[mode]]
    theirs = Side(cold_pair.direct, table, f"{case.name}-{mode}-d")
    ours = Side(cold_pair.proxy.endpoint, table, f"{case.name}-{mode}-p")
    behind = Side(cold_pair.direct, table, f"{case.name}-{mode}-p")
    if case.before is not None:
        theirs.put(case.before)
        behind.put(case.before)
    ours.read()
    assert "; hit" in ours.read().cache_status

    direct, proxied = theirs.send(case.call), ours.send(case.call)

    assert_conforms(cold_pair.engine, case.name, Step.COLD, direct=direct, proxied=proxied)
    first = ours.read()
    assert ours.read().content == first.content
    assert first.content == behind.read(consistent=True).content
    if not accepted(cold_pair.engine, case.name, Step.COLD):
        assert first.content == theirs.read().content
    else:  # refused where the engine may have gone on
        assert first.content == ({"Item": case.before} if case.before else {})
    if mode == "through" and case.name in KNOWN_AFTERWARDS:
        assert "; hit" in first.cache_status
