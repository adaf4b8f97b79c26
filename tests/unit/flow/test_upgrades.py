"""Claims about `proxy.flow.upgrades`: an UpdateItem that tells its result, to us only."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import UpstreamFailed
from proxy.core.operations import ItemWrite
from proxy.core.plan import PlannedWrite
from proxy.core.request import ClientRequest
from proxy.core.values import Mode, TableName
from proxy.flow import upgrades
from proxy.flow.upgrades import Sent, Upgrades
from tests.fakes.fake_upstream_script import FAILED, THROTTLED
from tests.support.flow_world import TABLE, World, client_request, key_of

DENIED = {"__type": "com.amazon.coral.service#AccessDeniedException"}
UPDATE: dict[str, Any] = {
    "TableName": TABLE,
    "Key": key_of("a"),
    "UpdateExpression": "SET v = :v",
    "ExpressionAttributeValues": {":v": {"S": "2"}},
}
OTHER = TableName("customers")


class Sender:
    """Sends updates of item a, each upgraded where possible."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.upgrades = Upgrades(world.proxy().exchange, world.clock)

    async def send(self, table: TableName = TABLE, **members: Any) -> Sent:
        """Send an UpdateItem."""
        request = client_request("UpdateItem", {**UPDATE, "TableName": table, **members})
        return await self.send_request(request, table)

    async def send_request(self, request: ClientRequest, table: TableName = TABLE) -> Sent:
        """Send a request."""
        write = ItemWrite(request.operation, table, key_of("a"))
        planned = PlannedWrite(write, self.world.policy)
        until_s = self.world.clock.monotonic_s() + 20.0
        return await self.upgrades.send(request, planned, resend_until_s=until_s)

    @property
    def wishes(self) -> list[str]:
        """What each UpdateItem that was sent asked to be returned."""
        sent = [each for each in self.world.upstream.sent if each.operation == "UpdateItem"]
        return [json.loads(each.body).get("ReturnValues", "NONE") for each in sent]


@pytest.fixture
async def sender(world: World) -> Sender:
    """Give a sender."""
    return Sender(world)


@pytest.mark.parametrize("members", [{}, {"ReturnValues": "NONE"}])
async def test_caller_sees_the_answer_that_he_asked_for(
    sender: Sender, members: dict[str, Any]
) -> None:
    """The item is taken out of the answer, whose checksum is that of what is left."""
    sent = await sender.send(**members)
    assert (sent.upgraded, sent.reply.status, sent.reply.body) == (True, 200, b"{}")
    assert json.loads(sent.full_body) == {"Attributes": {**key_of("a"), "v": {"S": "2"}}}
    headers = dict(sent.reply.headers)
    assert headers["x-amz-crc32"] == str(zlib.crc32(b"{}"))
    assert headers["x-amzn-RequestId"] == "UPSTREAM1"
    assert sender.wishes == ["ALL_NEW"]


@pytest.mark.parametrize("wish", ["ALL_OLD", "UPDATED_NEW", "ALL_NEW"])
async def test_caller_that_asks_for_a_part_gets_it(sender: Sender, wish: str) -> None:
    """His request passes byte for byte, and so does the answer."""
    sent = await sender.send(ReturnValues=wish)
    assert (sent.upgraded, sent.full_body) == (False, sent.reply.body)
    assert sender.wishes == [wish]


async def test_only_updates_of_cached_tables_are_upgraded(world: World, sender: Sender) -> None:
    """A put or delete tells its result anyway, and a table that is off has no reader."""
    delete = client_request("DeleteItem", {"TableName": TABLE, "Key": key_of("a")})
    assert not (await sender.send_request(delete)).upgraded
    assert world.upstream.sent[-1].body == delete.body
    world.policy = replace(world.policy, mode=Mode.OFF)
    assert not (await sender.send()).upgraded
    assert sender.wishes == ["NONE"]


@pytest.mark.parametrize("fault", [FAILED, THROTTLED])
async def test_error_passes_as_it_is(world: World, sender: Sender, fault: Any) -> None:
    """It has no item to hide, and says nothing about permissions."""
    world.upstream.fail("UpdateItem", fault)
    sent = await sender.send()
    assert (sent.upgraded, sent.reply.status >= 400) == (False, True)
    assert (await sender.send()).upgraded


async def test_denied_upgrade_is_sent_as_asked_and_not_tried_for_ten_minutes(
    world: World, sender: Sender
) -> None:
    """The table is remembered; others are not concerned."""
    world.upstream.tables.add(OTHER, pk="S")
    world.upstream.answer("UpdateItem", DENIED, status=400)
    sent = await sender.send()
    assert (sent.upgraded, sent.reply.status, sent.reply.body) == (False, 200, b"{}")
    await world.clock.sleep(599.0)
    assert not (await sender.send()).upgraded
    assert (await sender.send(OTHER)).upgraded
    await world.clock.sleep(1.0)
    assert (await sender.send()).upgraded
    assert sender.wishes == ["ALL_NEW", "NONE", "NONE", "ALL_NEW", "ALL_NEW"]


async def test_write_that_is_denied_altogether_says_nothing_about_all_new(
    world: World, sender: Sender
) -> None:
    """Both requests are refused: the caller may not write at all."""
    for _ in range(2):
        world.upstream.answer("UpdateItem", DENIED, status=400)
    sent = await sender.send()
    assert (sent.reply.status, sent.upgraded) == (400, False)
    assert (await sender.send()).upgraded


async def test_late_denial_is_not_followed_by_a_second_request(
    world: World, sender: Sender
) -> None:
    """Nothing was applied and nothing is owed; the retry goes out as the caller asked."""
    world.upstream.answer("UpdateItem", DENIED, status=400, effect=lambda: world.clock.pause(20.0))
    with pytest.raises(UpstreamFailed) as raised:
        await sender.send()
    assert not raised.value.maybe_applied
    assert not (await sender.send()).upgraded
    assert sender.wishes == ["ALL_NEW", "NONE"]


async def test_answer_that_is_not_understood_passes_and_is_not_asked_for_again(
    world: World, sender: Sender
) -> None:
    """An upstream that does not know ALL_NEW is asked for it no more."""
    world.upstream.answer("UpdateItem", b"{}")
    sent = await sender.send()
    assert (sent.upgraded, sent.reply.body) == (False, b"{}")
    assert not (await sender.send()).upgraded


async def test_memory_is_bounded(
    world: World, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound everything learned is dropped rather than kept for ever."""
    monkeypatch.setattr(upgrades, "_TABLES_MAX", 1)
    world.upstream.tables.add(OTHER, pk="S")
    for table in (TABLE, OTHER):
        world.upstream.answer("UpdateItem", DENIED, status=400)
        await sender.send(table)
    assert (await sender.send()).upgraded
    assert not (await sender.send(OTHER)).upgraded
