"""Any sequence of reads and writes gets the engine's answers while the store loses records.

Between two operations the store may drop records, as a full store does: an item's, those of its
scopes, the table's, those of pages, or all. Each example has items of its own: directly in one
table, through the proxy in tables of every mode that promises to see one's own writes (`around`
does not).
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.cache_key import KeySpace
from proxy.core.values import CacheKey, TableName
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.conformance.pair import ENGINES, TRIES_MAX, create_table, table_definition
from tests.conformance.sequence_steps import (
    BATCH_READS,
    CONDITIONS,
    KEYS,
    PLACES,
    READS,
    UPDATE_WISHES,
    VALUES,
    WISHES,
    Place,
    Step,
    Way,
    batch_get,
    conditioned,
    delete,
    get,
    key_of,
    put,
    update,
)
from tests.fakes.record_bytes import PendingBytes, ScopeBytes, unpack
from tests.support.dynamo_wire import Json, connected
from tests.support.proxy_process import REGION, running_proxy
from tests.support.raw_store import RawStore

PAGES: Final[Json] = {"enabled": True, "scans": True}
MODES: Final[dict[str, Json]] = {
    "invalidate": {"write_mode": "invalidate"},
    "through": {"write_mode": "through"},
    "strict": {"level": "strict", "write_mode": "through"},
    "eventual": {"level": "eventual", "write_mode": "invalidate"},
    "hash": {"write_mode": "through", "layout": "hash"},
    "compressed": {"write_mode": "through", "compress_above_bytes": 0},
}
"""Each is a table with these rules; the sequences of an example run in two of them."""

NAMESPACE: Final = "evictions"
SETTINGS: Final[Json] = {
    "store.namespace": NAMESPACE,
    # Short, so that pages count again soon after the table's record was dropped.
    "upstream.connect_timeout_s": 0.1,
    "upstream.write_timeout_s": 0.5,
    "fence.marker_s": 0.7,
}
POLL_S: Final = 0.02


@dataclass(frozen=True)
class Eviction:
    """The store drops records; `what` of "item", "scopes", "table", "pages" or "all"."""

    what: str
    place: Place


def query(partition: str, members: Json, *, consistent: bool) -> Step:
    """Read a partition."""
    body: Json = {
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": f"$mark-{partition}"}},
        "ConsistentRead": consistent,
    }
    return Step("Query", body | members)


def scan(projection: Json, *, consistent: bool) -> Step:
    """Read the example's items."""
    body: Json = {
        "FilterExpression": "begins_with(pk, :m)",
        "ExpressionAttributeValues": {":m": {"S": "$mark"}},
        "ConsistentRead": consistent,
    }
    return Step("Scan", body | projection)


def batch_write(writes: list[tuple[Place, Json | None]]) -> Step:
    """Put and delete items."""
    requests = [
        {"DeleteRequest": {"Key": key_of(place)}}
        if value is None
        else {"PutRequest": {"Item": {**key_of(place), "v": value}}}
        for place, value in writes
    ]
    return Step("BatchWriteItem", {"RequestItems": {"$table": requests}})


def transaction(actions: list[tuple[str, Place, Json, str]], token: str) -> Step:
    """Write items all or none; a token that was used before repeats, or contradicts, a write."""
    items = []
    for kind, place, value, condition in actions:
        named: Json = {"TableName": "$table"}
        if kind == "Put":
            named["Item"] = {**key_of(place), "v": value}
        else:
            named["Key"] = key_of(place)
        if kind == "Update":
            named["UpdateExpression"] = "SET v = :v, w = :v"
            named["ExpressionAttributeValues"] = {":v": value}
        if kind == "ConditionCheck":
            named["ConditionExpression"] = "attribute_exists(pk)"
        items.append({kind: conditioned(named, condition)})
    body: Json = {"TransactItems": items}
    return Step("TransactWriteItems", body | ({"ClientRequestToken": token} if token else {}))


def statement(kind: str, place: Place, literal: str) -> Step:
    """Read or write an item by PartiQL."""
    where = f"WHERE pk = '$mark-{place[0]}' AND sk = {place[1]}"
    text = {
        "SELECT": f'SELECT * FROM "$table" {where}',
        "INSERT": f"INSERT INTO \"$table\" VALUE {{'pk': '$mark-{place[0]}', 'sk': {place[1]},"
        f" 'v': {literal}}}",
        "UPDATE": f'UPDATE "$table" SET v = {literal} {where}',
        "DELETE": f'DELETE FROM "$table" {where}',
    }[kind]
    return Step("ExecuteStatement", {"Statement": text})


# Mostly of one form, so that the second finds what the first stored, or what a write left of it.
CONSISTENT: Final = st.sampled_from([*5 * [False], True])
QUERIES: Final = st.builds(
    query,
    st.sampled_from(["a", "a", "b"]),
    st.sampled_from([*3 * [{}], {"ScanIndexForward": False, "Limit": 1}, {"Select": "COUNT"}]),
    consistent=CONSISTENT,
)
SCANS: Final = st.builds(
    scan,
    st.sampled_from([*3 * [{}], {"ProjectionExpression": "pk, sk, v"}]),
    consistent=CONSISTENT,
)
PAGE_READS: Final = st.one_of(QUERIES, SCANS)
WRITES: Final = st.one_of(
    st.builds(put, PLACES, VALUES, CONDITIONS, WISHES),
    st.builds(update, PLACES, VALUES, CONDITIONS, UPDATE_WISHES),
    st.builds(delete, PLACES, CONDITIONS, WISHES),
    st.builds(
        batch_write,
        st.lists(
            st.tuples(PLACES, st.none() | VALUES),
            min_size=1,
            max_size=3,
            unique_by=lambda write: write[0],
        ),
    ),
    st.builds(
        transaction,
        st.lists(
            st.tuples(
                st.sampled_from(["Put", "Update", "Delete", "ConditionCheck"]),
                PLACES,
                VALUES,
                CONDITIONS,
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda action: action[1],
        ),
        st.sampled_from(["", "$token-1", "$token-2"]),
    ),
    st.builds(
        statement,
        st.sampled_from(["INSERT", "UPDATE", "DELETE"]),
        PLACES,
        st.sampled_from(["'x'", "7", "['a', 1]"]),
    ),
)
SELECTS: Final = st.builds(statement, st.just("SELECT"), PLACES, st.just(""))
EVICTIONS: Final = st.builds(
    Eviction,
    st.sampled_from([*6 * ["item", "scopes", "pages"], "table", "all"]),
    PLACES,
)
MOVES: Final = st.one_of(
    *(READS, BATCH_READS, SELECTS, EVICTIONS),
    *(PAGE_READS, PAGE_READS, PAGE_READS, PAGE_READS),
    *(WRITES, WRITES, WRITES),
)


@dataclass(frozen=True)
class Direct:
    """An engine's table that no proxy knows."""

    endpoint: str
    table: str

    @contextmanager
    def way(self) -> Iterator[Way]:
        """Connect for one example: between two, this connection is idle for longer than any."""
        with connected(self.endpoint) as connection:
            yield Way(connection, self.table)


class Bench:
    """The ways of one engine through the proxy, the direct one, and the store behind the proxy."""

    def __init__(self, ways: dict[str, Way], direct: Direct, store: RawStore) -> None:
        self.ways = ways
        self.direct = direct
        self._store = store
        self._keys = KeySpace(NAMESPACE, REGION)

    def ready(self, *modes: str) -> None:
        """Return once pages of these modes' tables count."""
        read = query("nobody", {}, consistent=False)
        left = set(modes)
        for _ in range(TRIES_MAX):
            for mode in list(left):
                self.ways[mode].answer(read, "nobody")
                if "; hit" in self.ways[mode].cache_says[-1]:
                    left.remove(mode)
            if not left:
                return
            time.sleep(POLL_S)
        raise AssertionError(f"no page of {left} counts")

    def evict(self, eviction: Eviction, modes: list[str], mark: str) -> None:
        """Drop records, but for those with a write in flight."""
        names = self._named(eviction, modes, mark)
        dropped = [name for name in names if not self._in_flight(name)]
        self._store.pipeline([("DEL", name) for name in dropped])

    def settled(self, mark: str) -> None:
        """Return once near caches know what the store said of the records dropped so far."""
        # The store writes its pushes before it reads another command, and the proxy reads what
        # came before the answer to a request that itself needed the store and the engine.
        self._store.run("PING")
        for way in self.ways.values():
            way.answer(get(("a", "1"), "", consistent=True), f"{mark}-settled")

    def _named(self, eviction: Eviction, modes: list[str], mark: str) -> set[CacheKey]:
        tables = [TableName(self.ways[mode].table) for mode in modes]
        if eviction.what == "table":
            return {self._keys.table_key(table) for table in tables}
        pk, sk = eviction.place
        key = {"pk": {"S": f"{mark}-{pk}"}, "sk": {"N": sk}}
        items = [self._keys.item(table, key) for table in tables]
        if eviction.what == "item":
            return {item.cache_key for item in items}
        if eviction.what == "scopes":
            return {scope for item in items for scope in item.name_scopes()}
        found = {CacheKey(name) for name in self._store.run("KEYS", self._keys.prefix + b"*")}
        if eviction.what == "all":
            return found
        generations = {self._keys.table_key(table) for table in tables}
        generations |= {scope for item in items for scope in item.name_scopes()}
        return found - generations - {item.cache_key for item in items}

    def _in_flight(self, name: CacheKey) -> bool:
        raw = self._store.run("GET", name)
        record = unpack(raw) if isinstance(raw, bytes) else None
        match record:
            case PendingBytes(markers=markers) | ScopeBytes(markers=markers):
                return bool(markers)
            case _:
                return False


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[RunningStore]:
    """Run a store that nobody else flushes."""
    with closing(start_valkey()) as store:
        yield store


@pytest.fixture(scope="module", params=[pytest.param(e, marks=pytest.mark.engine) for e in ENGINES])
def bench(request: pytest.FixtureRequest, own_valkey: RunningStore) -> Iterator[Bench]:
    """Give the direct way and one through the proxy for every mode."""
    endpoint = request.getfixturevalue(request.param).endpoint
    tables = {mode: f"e-{uuid.uuid4().hex[:8]}" for mode in ("direct", *MODES)}
    for name in tables.values():
        create_table(endpoint, table_definition(name, KEYS))
    rules = {tables[mode]: {**rule, "queries": PAGES} for mode, rule in MODES.items()}
    given = SETTINGS | {"tables": rules}
    with (
        running_proxy(upstream=endpoint, store=own_valkey.url, settings=given) as proxy,
        connected(proxy.endpoint) as proxied,
        RawStore(own_valkey.address) as store,
    ):
        ways = {mode: Way(proxied, tables[mode]) for mode in MODES}
        yield Bench(ways, Direct(endpoint, tables["direct"]), store)


@settings(max_examples=15, deadline=None)
@given(
    moves=st.lists(MOVES, min_size=20, max_size=60),
    modes=st.lists(st.sampled_from(sorted(MODES)), min_size=2, max_size=2, unique=True),
)
def test_sequence_with_evictions_is_answered_as_directly(
    bench: Bench, moves: list[Step | Eviction], modes: list[str]
) -> None:
    """Every answer, of items, pages, writes and refusals, is the engine's, in both tables."""
    mark = uuid.uuid4().hex[:8]
    bench.ready(*modes)
    with bench.direct.way() as direct:
        for number, move in enumerate(moves):
            if isinstance(move, Eviction):
                bench.evict(move, modes, mark)
                continue
            expected = direct.answer(move, mark)
            for mode in modes:
                assert bench.ways[mode].answer(move, mark) == expected, (number, mode)


def test_sequences_do_hit_items_and_pages(bench: Bench) -> None:
    """Every mode's table answers repeated reads of every kind from the cache."""
    reads = [
        get(("a", "1"), "", consistent=False),
        batch_get([("a", "1"), ("a", "2")], "", consistent=False),
        query("a", {}, consistent=False),
        scan({}, consistent=False),
    ]
    hits: Counter[str] = Counter()
    bench.ready(*MODES)
    for mode in MODES:
        for read in reads:
            for _ in range(2):
                bench.ways[mode].answer(read, "nobody")
            hits[read.operation] += "; hit" in bench.ways[mode].cache_says[-1]
    assert hits == dict.fromkeys(("GetItem", "BatchGetItem", "Query", "Scan"), len(MODES))


@pytest.mark.parametrize("what", ["item", "scopes", "table", "pages", "all"])
def test_evictions_do_drop_records(bench: Bench, what: str) -> None:
    """What was a hit is none after the records it hangs on were dropped."""
    mark, item, page = (
        "gone",
        get(("a", "1"), "", consistent=False),
        query("a", {}, consistent=False),
    )
    way = bench.ways["through"]
    bench.ready("through")
    for read in (item, page):
        for _ in range(2):
            way.answer(read, mark)
        assert "; hit" in way.cache_says[-1]
    bench.evict(Eviction(what, ("a", "1")), ["through"], mark)
    bench.settled(mark)
    still = []
    for read in (item, page):
        way.answer(read, mark)
        still.append("; hit" in way.cache_says[-1])
    assert (
        still
        == {
            "item": [False, True],
            "scopes": [True, False],
            "table": [False, False],
            "pages": [True, False],
            "all": [False, False],
        }[what]
    )
