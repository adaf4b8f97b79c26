"""Claims about `proxy.flow.write_targets`: which records a write fences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import WriteOutcome
from proxy.core.key_schema import KeySchema
from proxy.core.plan import TablesWritePlan, WritePlan
from proxy.core.values import TableName, Token, WriteMode
from proxy.flow.write_targets import TargetChooser, Targets
from tests.fakes.memory_store import MemoryStore
from tests.support.flow_world import TABLE, World, client_request, key_of

OTHER = TableName("customers")
TOKEN = Token(b"t" * 16)


def put(pk: str) -> dict[str, Any]:
    """Return one write of a batch."""
    return {"PutRequest": {"Item": {**key_of(pk), "v": {"S": "1"}}}}


def delete(pk: str) -> dict[str, Any]:
    """Return one write of a batch."""
    return {"DeleteRequest": {"Key": key_of(pk)}}


async def choose(
    world: World, body: dict[str, Any], operation: str = "BatchWriteItem", *, known: bool = True
) -> Targets:
    """Return the targets of a request of a proxy that knows the key schema of TABLE, or none."""
    plan = world.plan(client_request(operation, body))
    assert isinstance(plan, WritePlan | TablesWritePlan)
    proxy = world.proxy(configured={TABLE: KeySchema("pk")} if known else {})
    chooser = TargetChooser(proxy.store, proxy.schemas, world.keys)
    return await chooser.choose(plan, operation, TOKEN)


def items(world: World, *pks: str, table: TableName = TABLE) -> list[bytes]:
    """Return the names of items' records."""
    return [world.identity(pk, table).cache_key for pk in pks]


def fenced(targets: Targets) -> list[bytes]:
    """Return the names of the records that are fenced."""
    return [fence.keys[0] for fence in targets.fences]


async def test_every_item_of_a_request_is_fenced(world: World) -> None:
    """By its own record, in the order of the request; nothing is begun yet."""
    targets = await choose(world, {"RequestItems": {TABLE: [put("a"), delete("b"), put("c")]}})
    assert fenced(targets) == items(world, "a", "b", "c")
    assert (targets.table, targets.only, targets.through) == (TABLE, None, {})
    assert world.store.steps == []


async def test_one_item_is_fenced_once(world: World) -> None:
    """Whatever the spelling of its key; two writes of it leave no known result."""
    world.policy = replace(world.policy, write_mode=WriteMode.THROUGH)
    writes = [put("a"), put("b"), delete("a"), put("a")]
    targets = await choose(world, {"RequestItems": {TABLE: writes}})
    assert fenced(targets) == items(world, "a", "b")
    assert list(targets.through) == items(world, "b")


async def test_items_of_several_tables_belong_to_none(world: World) -> None:
    """Each table's key schema is asked for, all at once, and only where a key is missing."""
    world.upstream.tables.add(OTHER, pk="S")
    body = {"RequestItems": {TABLE: [delete("a")], OTHER: [put("a")]}}
    targets = await choose(world, body, known=False)
    assert fenced(targets) == [*items(world, "a"), *items(world, "a", table=OTHER)]
    assert targets.table is None
    assert world.upstream.count("DescribeTable") == 1


async def test_an_item_that_cannot_be_named_stands_for_its_table(world: World) -> None:
    """Then the table's fence covers its other items too; those of other tables stay apart."""
    world.policy = replace(world.policy, write_mode=WriteMode.THROUGH)
    body = {"RequestItems": {TABLE: [put("a"), {}], OTHER: [delete("a")]}}
    targets = await choose(world, body)
    assert fenced(targets) == [world.keys.table_key(TABLE), *items(world, "a", table=OTHER)]
    assert list(targets.through) == items(world, "a", table=OTHER)


async def test_unknown_key_schema_fences_the_table(world: World) -> None:
    """A put's key cannot be picked from its item."""
    world.upstream.answer("DescribeTable", {"__type": "AccessDenied"}, status=400)
    targets = await choose(world, {"RequestItems": {TABLE: [put("a")]}}, known=False)
    assert fenced(targets) == [world.keys.table_key(TABLE)]


@pytest.mark.parametrize("mode", list(WriteMode)[:2])
async def test_a_single_write_may_be_stored_when_written_through(
    world: World, mode: WriteMode
) -> None:
    """Only then is its result worth asking for."""
    world.policy = replace(world.policy, write_mode=mode)
    body = {"TableName": TABLE, "Key": key_of("a")}
    targets = await choose(world, body, "UpdateItem")
    only = targets.only
    assert (only is not None) == (mode is WriteMode.THROUGH)
    assert targets.table == TABLE
    assert fenced(targets) == items(world, "a")


async def test_a_statement_is_fenced_by_the_schema(world: World) -> None:
    """The key is picked from its equalities."""
    body = {"Statement": "UPDATE orders SET v=? WHERE pk=?", "Parameters": [{"S": "1"}, {"S": "a"}]}
    assert fenced(await choose(world, body, "ExecuteStatement")) == items(world, "a")
    partly = {"Statement": "UPDATE orders SET v='1' WHERE sk='a'"}
    targets = await choose(world, partly, "ExecuteStatement")
    assert fenced(targets) == [world.keys.table_key(TABLE)]


@pytest.mark.parametrize("operation", ["DeleteTable", "BatchWriteItem"])
async def test_whole_tables_are_fenced_in_one_order(world: World, operation: str) -> None:
    """Only an operation on the table itself may make it anew: then the stamp must change."""
    plan = TablesWritePlan(frozenset({TABLE, OTHER}), strict=False)
    store: MemoryStore = world.link()
    chooser = TargetChooser(store, world.proxy().schemas, world.keys)
    targets = await chooser.choose(plan, operation, TOKEN)
    assert [fence.table for fence in targets.fences] == [OTHER, TABLE]
    assert [fence._remakes for fence in targets.fences] == [operation == "DeleteTable"] * 2  # type: ignore[attr-defined]


class Presuming:
    """A proxy that has learned the key schema of TABLE from DescribeTable, and one put of it."""

    def __init__(self, world: World) -> None:
        self.world, self.proxy = world, world.proxy()
        self.chooser = TargetChooser(self.proxy.store, self.proxy.schemas, world.keys)

    async def targets(
        self, body: dict[str, Any] | None = None, operation: str = "PutItem"
    ) -> Targets:
        """Return the targets of a request, with its item's key presumed where that can be."""
        body = body or {"TableName": TABLE, "Item": {**key_of("a"), "v": {"S": "1"}}}
        plan = self.world.plan(client_request(operation, body))
        assert isinstance(plan, WritePlan | TablesWritePlan)
        return await self.chooser.choose(plan, operation, TOKEN, presumes=True)

    def steps(self) -> list[str]:
        """Return the store's steps since this was asked last."""
        found = [step.name for step in self.proxy.store.steps]
        self.proxy.store.steps.clear()
        return found


@pytest.fixture
async def presuming(world: World) -> Presuming:
    """Give such a proxy."""
    made = Presuming(world)
    await made.proxy.schemas.schema_of(TABLE)
    made.steps()
    return made


async def test_the_key_of_a_single_put_is_presumed(presuming: Presuming) -> None:
    """Nobody is asked before the begin, and that tells whether it was right."""
    targets = await presuming.targets()
    assert fenced(targets) == items(presuming.world, "a")
    assert list(targets.presumed) == [TABLE]
    assert presuming.steps() == []
    await targets.fences[0].begin()
    assert await presuming.chooser.right(targets)
    assert presuming.steps() == ["begin"]


async def test_where_begin_does_not_tell_the_stamp_is_asked_for(presuming: Presuming) -> None:
    """As while all of the table is being written to, or where begin failed."""
    targets = await presuming.targets()
    presuming.proxy.store.fail_next(StoreFailure.TIMEOUT, step="begin")
    with pytest.raises(StoreUnavailable):
        await targets.fences[0].begin()
    assert await presuming.chooser.right(targets)
    assert presuming.steps() == ["begin", "generation"]
    table = presuming.chooser.table(TABLE, Token(b"o" * 16), remakes=True)
    await table.begin()
    await targets.fences[0].begin()
    assert await presuming.chooser.right(targets)
    assert presuming.steps() == ["begin_table", "begin", "generation"]
    await table.end(WriteOutcome.INVALIDATED, None)
    assert not await presuming.chooser.right(targets)


async def test_a_table_made_anew_is_noticed_after_begin(presuming: Presuming) -> None:
    """By another proxy, meanwhile; fences that presume nothing are right by themselves."""
    targets = await presuming.targets()
    table = presuming.chooser.table(TABLE, Token(b"o" * 16), remakes=True)
    await table.begin()
    await table.end(WriteOutcome.INVALIDATED, None)
    await targets.fences[0].begin()
    assert not await presuming.chooser.right(targets)
    assert await presuming.chooser.right(replace(targets, presumed={}))


UPDATE = {"TableName": TABLE, "Key": key_of("a")}
KEYLESS = {"TableName": TABLE, "Item": {"v": {"S": "1"}}}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("UpdateItem", UPDATE),
        ("BatchWriteItem", {"RequestItems": {TABLE: [put("a")], OTHER: [put("a")]}}),
        ("DeleteTable", {"TableName": TABLE}),
        ("PutItem", KEYLESS),
    ],
)
async def test_nothing_else_is_presumed(
    presuming: Presuming, operation: str, body: dict[str, Any]
) -> None:
    """A key that is given, tables of which none is known, whole tables, items without a key."""
    assert (await presuming.targets(body, operation)).presumed == {}


async def test_all_items_of_a_batch_are_presumed(presuming: Presuming) -> None:
    """Each table's stamp is told by any of its items; a wrong one of them is enough."""
    world = presuming.world
    world.upstream.tables.add(OTHER, pk="S")
    await presuming.proxy.schemas.schema_of(OTHER)
    presuming.steps()
    writes = {TABLE: [put("a"), delete("b")], OTHER: [put("a")]}
    targets = await presuming.targets({"RequestItems": writes}, "BatchWriteItem")
    assert set(targets.presumed) == {TABLE, OTHER}
    presuming.proxy.store.fail_next(StoreFailure.TIMEOUT, step="begin")
    with pytest.raises(StoreUnavailable):
        await targets.fences[0].begin()
    for fence in targets.fences[1:]:
        await fence.begin()
    assert await presuming.chooser.right(targets)
    assert presuming.steps() == ["begin"] * 3
    table = presuming.chooser.table(OTHER, Token(b"o" * 16), remakes=True)
    await table.begin()
    await table.end(WriteOutcome.INVALIDATED, None)
    await targets.fences[2].begin()
    assert not await presuming.chooser.right(targets)
