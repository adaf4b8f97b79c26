"""Claims of proxy.edge.redis_lookup: a reply is judged where it is read, or left to others."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.fence import RecordState, Sighting
from proxy.core.values import CacheKey, Generation, Incarnation, TableName
from proxy.edge.redis_lookup import RedisLookup
from proxy.edge.redis_primary import PrimaryView
from tests.fakes.record_bytes import EntryBytes, ScopeBytes
from tests.support.live_lanes import KEYS

ITEM = KEYS.item(TableName("orders"), {"pk": {"S": "a"}})
HERE = Incarnation(b"i" * 8)
NOW = Generation(b"g" * 8)
VIEW = PrimaryView(HERE, 10.0, 10.0, 5_000, gate_in_s=0.0)
TABLE_RAW = ScopeBytes(HERE, NOW, (), 4_000).pack()


class Source:
    """A connection."""

    proven_s = 0.0
    serves_until_s = float("inf")


SOURCE = Source()


class Told:
    """A reader that keeps what it is told, and may not be able to take it."""

    def __init__(self, bug: Exception | None = None) -> None:
        self.words: list[object] = []
        self._bug = bug

    def saw(self, sighting: Sighting) -> None:
        """Take it."""
        self._take(sighting)

    def unsure(self) -> None:
        """Take it."""
        self._take("unsure")

    def failed(self, problem: StoreUnavailable) -> None:
        """Take it."""
        self._take(problem)

    def broke(self, error: Exception) -> None:
        """Take it."""
        self.words.append(error)

    def _take(self, word: object) -> None:
        self.words.append(word)
        if self._bug is not None:
            raise self._bug


@pytest.fixture
def lookup() -> tuple[RedisLookup, Told]:
    """Give a lookup of item `a`."""
    return make(Told())


def make(told: Told, source: Source | None = SOURCE) -> tuple[RedisLookup, Told]:
    """Return a lookup of item `a` that tells somebody."""
    return RedisLookup(ITEM, told, VIEW, source=source, now_s=lambda: 11.0), told


def entry_of() -> bytes:
    """Return the item's record."""
    payload = bytes([0]) + (3).to_bytes(4, "big") + (7).to_bytes(4, "big") + b"{}"
    return EntryBytes(HERE, NOW, ITEM.digest, 1, 2, 3, payload).pack()


def test_both_records_are_asked_for_together() -> None:
    """Two commands in one piece, the item's first."""
    lookup, _ = make(Told())
    item, table = ITEM.cache_key, ITEM.table_key

    def get(cache_key: CacheKey) -> bytes:
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(cache_key), cache_key)

    assert (lookup.packed, lookup.count, lookup.given_up) == (get(item) + get(table), 2, False)


@pytest.mark.parametrize("source", [SOURCE, None])
def test_what_is_there_is_seen(source: Source | None) -> None:
    """An entry, by the store's clock, with who will tell of changes; or nothing."""
    lookup, told = make(Told(), source)
    lookup.replies += [entry_of(), TABLE_RAW]
    lookup.settle()
    absent, _ = make(told, source)
    absent.replies += [None, TABLE_RAW]
    absent.settle()
    seen, nothing = told.words
    assert isinstance(seen, Sighting)
    assert seen.entry is not None
    assert (seen.state, seen.entry.body, seen.generation) == (RecordState.ENTRY, b"{}", NOW)
    assert (seen.store_now_ms, seen.sources) == (6_001, (source,) if source else ())
    assert isinstance(nothing, Sighting)
    assert (nothing.state, nothing.entry) == (RecordState.ABSENT, None)


@pytest.mark.parametrize(
    "replies",
    [
        [ResponseError("WRONGTYPE"), TABLE_RAW],
        [None, ResponseError("no")],
        [None, None],
        [None, b"G\x02 of a later release"],
        [None, ScopeBytes(Incarnation(b"o" * 8), NOW, (), 4_000).pack()],
    ],
    ids=["hash", "refused", "unknown table", "later release", "other incarnation"],
)
def test_what_one_look_cannot_tell_is_left_to_others(
    lookup: tuple[RedisLookup, Told], replies: list[object]
) -> None:
    """They will ask again, and may ask for more."""
    made, told = lookup
    made.replies += replies
    made.settle()
    assert told.words == ["unsure"]


def test_each_reader_gets_a_failure_of_its_own(lookup: tuple[RedisLookup, Told]) -> None:
    """Exceptions collect tracebacks."""
    made, told = lookup
    problem = StoreUnavailable(StoreFailure.RESET, "gone")
    made.fail(problem)
    (word,) = told.words
    assert isinstance(word, StoreUnavailable)
    assert (word.failure, str(word)) == (problem.failure, str(problem))
    assert word is not problem


def test_a_reader_that_cannot_take_it_ends_nothing() -> None:
    """The bug is told; others share the connection."""
    bug = ValueError("bug")
    for replies in ([None, TABLE_RAW], [None, None]):
        lookup, told = make(Told(bug))
        lookup.replies += replies
        lookup.settle()
        assert told.words[1:] == [bug]
    lookup, told = make(Told(bug))
    lookup.fail(StoreUnavailable(StoreFailure.RESET, "gone"))
    assert told.words[1:] == [bug]
