"""Claims about `proxy.flow.schemas`."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.fence import WriteOutcome, stamp_of
from proxy.core.key_schema import KeySchema
from proxy.core.values import TableName, Token
from proxy.flow import schemas
from proxy.flow.schemas import SchemaBook
from tests.fakes.fake_upstream_script import FAILED
from tests.support.flow_world import TABLE, Proxy, World
from tests.support.virtual_time import quiesce

SCHEMA = KeySchema("pk")
KEYED = [{"AttributeName": "pk", "KeyType": "HASH"}]


@pytest.fixture
async def proxy(world: World) -> Proxy:
    """Give one proxy."""
    return world.proxy()


@pytest.fixture
async def book(proxy: Proxy) -> SchemaBook:
    """Give its key schemas."""
    return proxy.schemas


async def test_schema_is_asked_for_once(world: World, book: SchemaBook) -> None:
    """DescribeTable is asked once a minute, not once per write."""
    assert [await book.schema_of(TABLE) for _ in range(3)] == [SCHEMA] * 3
    await world.clock.sleep(59.0)
    assert await book.schema_of(TABLE) == SCHEMA
    assert world.upstream.count("DescribeTable") == 1
    await world.clock.sleep(2.0)
    assert await book.schema_of(TABLE) == SCHEMA
    assert world.upstream.count("DescribeTable") == 2


async def test_recall_asks_nobody(world: World, book: SchemaBook) -> None:
    """What was learned a moment ago is given back as long as it is young."""
    assert book.recall(TABLE) is None
    await book.schema_of(TABLE)
    asked = len(world.upstream.sent)
    assert book.recall(TABLE) == SCHEMA
    await world.clock.sleep(61.0)
    assert book.recall(TABLE) is None
    assert len(world.upstream.sent) == asked


async def test_concurrent_questions_are_one(world: World, book: SchemaBook) -> None:
    """A thousand first writes ask once."""
    answers = await asyncio.gather(*(book.schema_of(TABLE) for _ in range(1000)))
    assert answers == [SCHEMA] * 1000
    assert world.upstream.count("DescribeTable") == 1


async def test_cancelled_asker_leaves_the_answer_to_the_others(
    world: World, book: SchemaBook
) -> None:
    """Who hangs up does not take the question back."""
    gate = world.upstream.hold("DescribeTable")
    first = asyncio.ensure_future(book.schema_of(TABLE))
    second = asyncio.ensure_future(book.schema_of(TABLE))
    await gate.reached()
    first.cancel()
    await quiesce()
    gate.release()
    assert await second == SCHEMA
    assert first.cancelled()


async def test_configured_schema_is_never_asked_for(world: World) -> None:
    """What the operator configured is believed."""
    configured = KeySchema("id", "at")
    book = world.proxy(configured={TABLE: configured}).schemas
    assert await book.schema_of(TABLE) == configured
    book.forget(TABLE)
    assert await book.schema_of(TABLE) == configured
    assert world.upstream.sent == []


@pytest.mark.parametrize("why", ["denied", "broken", "silent", "unsent", "unread"])
async def test_unknown_schema_is_asked_for_again_soon(
    world: World, book: SchemaBook, why: str
) -> None:
    """A schema that nobody told is None for half a minute, then asked for again."""
    match why:
        case "denied":
            world.upstream.answer("DescribeTable", {"Table": {"KeySchema": KEYED}}, status=400)
        case "broken":
            world.upstream.fail("DescribeTable", FAILED)
        case "silent":
            world.upstream.hold("DescribeTable")
        case "unsent":
            world.upstream.refuse("DescribeTable", UpstreamFailure.CREDENTIALS)
        case _:
            world.upstream.answer("DescribeTable", {"Table": {}})
    assert await book.schema_of(TABLE) is None
    world.upstream.release()
    assert await book.schema_of(TABLE) is None
    assert world.upstream.count("DescribeTable") == 1
    await world.clock.sleep(31.0)
    assert await book.schema_of(TABLE) == SCHEMA


async def test_a_presumed_schema_comes_with_its_stamp(world: World, book: SchemaBook) -> None:
    """Nobody is asked for it; whether the table bears the stamp still is another question."""
    assert book.presume(TABLE) is None
    await book.schema_of(TABLE)
    table_key = world.keys.table_key(TABLE)
    stamp = stamp_of(await world.store.generation(table_key))
    asked = len(world.upstream.sent)
    assert book.presume(TABLE) == (SCHEMA, stamp)
    assert len(world.upstream.sent) == asked
    assert await book.bears(TABLE, stamp)
    await world.store.begin_table(table_key, token=Token(b"t" * 16))
    await world.store.end_table(
        table_key, token=Token(b"t" * 16), outcome=WriteOutcome.INVALIDATED, remade=True
    )
    assert not await book.bears(TABLE, stamp)
    assert book.presume(TABLE) == (SCHEMA, stamp)


async def test_without_the_store_every_stamp_is_borne(world: World, proxy: Proxy) -> None:
    """What was learned is the best there is."""
    await proxy.schemas.schema_of(TABLE)
    proxy.store.down = StoreFailure.TIMEOUT
    assert await proxy.schemas.bears(TABLE, b"any")


async def test_what_is_old_or_has_no_stamp_is_not_presumed(world: World, proxy: Proxy) -> None:
    """Nor is a schema that nobody told."""
    book = proxy.schemas
    await book.schema_of(TABLE)
    await world.clock.sleep(61.0)
    assert book.presume(TABLE) is None
    proxy.store.down = StoreFailure.TIMEOUT
    assert await book.schema_of(TABLE) == SCHEMA
    assert book.presume(TABLE) is None
    proxy.store.down = None
    world.upstream.answer("DescribeTable", {"__type": "AccessDenied"}, status=400)
    assert await book.schema_of(TABLE) is None
    assert book.presume(TABLE) is None


async def test_forgotten_schema_is_asked_for_again(world: World, book: SchemaBook) -> None:
    """A table that was made anew with another key is learned anew."""
    assert await book.schema_of(TABLE) == SCHEMA
    world.upstream.tables.add(TABLE, id="S", at="N")
    assert await book.schema_of(TABLE) == SCHEMA
    book.forget(TABLE)
    assert await book.schema_of(TABLE) == KeySchema("id", "at")


@pytest.mark.parametrize("older_lands", ["first", "last"])
async def test_answer_to_a_question_from_before_forgetting_is_not_kept(
    world: World, book: SchemaBook, older_lands: str
) -> None:
    """What was asked before the table was made anew answers nobody who asks after it."""
    older = world.upstream.hold("DescribeTable", after_effect=True)
    before = asyncio.ensure_future(book.schema_of(TABLE))
    await older.reached()
    world.upstream.keep_held(older)
    newer = world.upstream.hold("DescribeTable", after_effect=True)
    world.upstream.tables.add(TABLE, id="S")
    book.forget(TABLE)
    after = asyncio.ensure_future(book.schema_of(TABLE))
    await newer.reached()
    for gate in (older, newer) if older_lands == "first" else (newer, older):
        gate.release()
        await quiesce()
    assert [await before, await after] == [SCHEMA, KeySchema("id")]
    assert await book.schema_of(TABLE) == KeySchema("id")
    assert world.upstream.count("DescribeTable") == 2


async def test_question_is_shared_although_an_older_one_lands_meanwhile(
    world: World, book: SchemaBook
) -> None:
    """The landing of a forgotten question leaves the younger one to be shared."""
    older = world.upstream.hold("DescribeTable")
    before = asyncio.ensure_future(book.schema_of(TABLE))
    await older.reached()
    world.upstream.keep_held(older)
    newer = world.upstream.hold("DescribeTable")
    book.forget(TABLE)
    askers = [asyncio.ensure_future(book.schema_of(TABLE))]
    await newer.reached()
    older.release()
    await before
    askers.append(asyncio.ensure_future(book.schema_of(TABLE)))
    await quiesce()
    newer.release()
    assert await asyncio.gather(*askers) == [SCHEMA, SCHEMA]
    assert world.upstream.count("DescribeTable") == 2


async def test_memory_is_bounded(
    world: World, book: SchemaBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound everything learned is dropped rather than kept for ever."""
    monkeypatch.setattr(schemas, "_TABLES_MAX", 2)
    for name in ("one", "two", "three"):
        world.upstream.tables.add(name, pk="S")
    for name in ("one", "two", "one", "three", "three"):
        await book.schema_of(TableName(name))
    assert world.upstream.count("DescribeTable") == 3
    await book.schema_of(TableName("one"))
    assert world.upstream.count("DescribeTable") == 4


async def test_schema_is_known_on_without_the_store(world: World, proxy: Proxy) -> None:
    """Without its stamp, what was learned is the best there is."""
    assert await proxy.schemas.schema_of(TABLE) == SCHEMA
    proxy.store.down = StoreFailure.CONNECT
    assert await proxy.schemas.schema_of(TABLE) == SCHEMA
    assert world.upstream.count("DescribeTable") == 1


# Learned from requests


async def denied(world: World, book: SchemaBook) -> None:
    """Let DescribeTable be denied once and time go on."""
    world.upstream.answer("DescribeTable", {"__type": "AccessDeniedException"}, status=400)
    assert await book.schema_of(TABLE) is None
    await world.clock.sleep(1.0)


async def test_accepted_key_tells_what_describe_table_did_not(
    world: World, book: SchemaBook
) -> None:
    """Its names are the table's key attributes; with two of them their order is not known."""
    await denied(world, book)
    book.learn(TABLE, {"sk": 1, "pk": 2}.keys(), world.clock.monotonic_s())
    assert await book.schema_of(TABLE) == KeySchema("pk", "sk", ordered=False)
    assert world.upstream.count("DescribeTable") == 1


async def test_nothing_is_learned_of_a_table_that_nobody_asked_about(
    world: World, book: SchemaBook
) -> None:
    """Without a question there is no stamp to hold an answer to."""
    book.learn(TABLE, ["id"], world.clock.monotonic_s())
    assert await book.schema_of(TABLE) == SCHEMA


async def test_described_schema_is_not_learned_anew(world: World, book: SchemaBook) -> None:
    """DescribeTable knows better than one request."""
    await book.schema_of(TABLE)
    await world.clock.sleep(1.0)
    book.learn(TABLE, ["id"], world.clock.monotonic_s())
    assert await book.schema_of(TABLE) == SCHEMA


async def test_request_from_before_the_question_tells_nothing(
    world: World, book: SchemaBook
) -> None:
    """It may have been answered by a table of before the question's stamp."""
    sent_s = world.clock.monotonic_s()
    await denied(world, book)
    book.learn(TABLE, ["pk"], sent_s)
    assert await book.schema_of(TABLE) is None


@pytest.mark.parametrize("names", [[], ["a", "b", "c"]])
async def test_key_of_no_schema_tells_nothing(
    world: World, book: SchemaBook, names: list[str]
) -> None:
    """Only one or two names can be a primary key."""
    await denied(world, book)
    book.learn(TABLE, names, world.clock.monotonic_s())
    assert await book.schema_of(TABLE) is None


async def test_two_accepted_keys_that_differ_tell_nothing(world: World, book: SchemaBook) -> None:
    """The table was made anew in between, or upstream takes any key; a third one may tell."""
    await denied(world, book)
    for names, known in ((["pk"], SCHEMA), (["pk"], SCHEMA), (["id"], None)):
        book.learn(TABLE, names, world.clock.monotonic_s())
        assert await book.schema_of(TABLE) == known
    book.learn(TABLE, ["pk"], world.clock.monotonic_s())
    assert await book.schema_of(TABLE) is None
    await world.clock.sleep(1.0)
    book.learn(TABLE, ["id"], world.clock.monotonic_s())
    assert await book.schema_of(TABLE) == KeySchema("id")


async def test_learned_schema_is_void_under_another_stamp(world: World, proxy: Proxy) -> None:
    """A table made anew through any proxy is asked about again."""
    book = proxy.schemas
    await denied(world, book)
    book.learn(TABLE, ["pk"], world.clock.monotonic_s())
    await world.proxy().call("DeleteTable", {"TableName": TABLE})
    world.upstream.tables.add(TABLE, id="S")
    assert await book.schema_of(TABLE) == KeySchema("id")


@pytest.mark.parametrize("confirmed", [True, False])
async def test_learned_schema_stays_while_requests_confirm_it(
    world: World, book: SchemaBook, *, confirmed: bool
) -> None:
    """After a minute DescribeTable is asked again; denied again, what requests say stays."""
    await denied(world, book)
    book.learn(TABLE, ["pk"], world.clock.monotonic_s())
    await world.clock.sleep(50.0)
    if confirmed:
        book.learn(TABLE, ["pk"], world.clock.monotonic_s())
    await world.clock.sleep(11.0)
    world.upstream.answer("DescribeTable", {"__type": "AccessDeniedException"}, status=400)
    for _ in range(2):
        assert await book.schema_of(TABLE) == (SCHEMA if confirmed else None)
    assert world.upstream.count("DescribeTable") == 2


async def test_what_was_learned_under_another_stamp_does_not_stay(
    world: World, proxy: Proxy
) -> None:
    """Denied again, a table made anew is unknown."""
    book = proxy.schemas
    await denied(world, book)
    book.learn(TABLE, ["pk"], world.clock.monotonic_s())
    await world.proxy().call("DeleteTable", {"TableName": TABLE})
    await denied(world, book)


async def test_doubted_schema_is_asked_for_again(world: World, book: SchemaBook) -> None:
    """Upstream refused a key: the table may have been made anew past every proxy."""
    await book.schema_of(TABLE)
    world.upstream.tables.add(TABLE, id="S")
    await world.clock.sleep(5.0)
    book.doubt(TABLE)
    assert await book.schema_of(TABLE) == KeySchema("id")


async def test_doubts_make_few_questions(world: World, book: SchemaBook) -> None:
    """A caller with wrong keys costs one DescribeTable per five seconds, or none if denied."""
    book.doubt(TABLE)
    await book.schema_of(TABLE)
    await world.clock.sleep(4.9)
    book.doubt(TABLE)
    await book.schema_of(TABLE)
    assert world.upstream.count("DescribeTable") == 1
    book.forget(TABLE)
    await denied(world, book)
    await world.clock.sleep(10.0)
    book.doubt(TABLE)
    assert await book.schema_of(TABLE) is None
    assert world.upstream.count("DescribeTable") == 2
