"""Claims about `proxy.core.near_rules`: one interleaving each."""

from __future__ import annotations

import math

import pytest

from proxy.core import near_rules
from proxy.core.fence import ItemIdentity, RecordState, Sighting
from proxy.core.near_cache import NearCache
from proxy.core.near_rules import Look, NearRules
from proxy.core.record import Entry, Packing
from proxy.core.values import CacheKey, Digest, Generation, Incarnation, TableName

DELTA_S = 0.25
NOW_S = 1000.0
AHEAD_MS = 1_700_000_000_000
TABLE = TableName("orders")
TABLE_KEY = CacheKey(b"record of the table")
ONE, OTHER = Generation(b"one     "), Generation(b"other   ")


class Source:
    """A connection whose last answered PING was sent just now, unless a test says otherwise."""

    def __init__(self) -> None:
        self.proven_s = NOW_S
        self.serves_until_s = math.inf


def identity(name: str, table_key: CacheKey = TABLE_KEY) -> ItemIdentity:
    return ItemIdentity(TABLE, CacheKey(name.encode()), table_key, Digest(name.encode().ljust(16)))


ITEM = identity("the record of an item")


def entry(text: str = "1", generation: Generation = ONE) -> Entry:
    return Entry(
        Incarnation(bytes(8)),
        generation,
        ITEM.digest,
        filled_ms=AHEAD_MS,
        soft_ms=AHEAD_MS + 60_000,
        hard_ms=AHEAD_MS + 90_000,
        negative=False,
        item_bytes=1,
        crc32=1,
        body=text.encode(),
    )


class Near:
    """The rules over a roomy cache, one connection, and reads in one word each."""

    def __init__(self) -> None:
        self.cache = NearCache(bytes_max=1_000_000, table_share_max=1.0)
        self.rules = NearRules(self.cache)
        self.lane = Source()

    def sighting(
        self, seen: Entry | None, *sources: Source, generation: Generation = ONE
    ) -> Sighting:
        state = RecordState.ENTRY if seen is not None else RecordState.ABSENT
        now_ms = AHEAD_MS + int(1000 * NOW_S)
        return Sighting(state, seen, generation, False, now_ms, sources or (self.lane,))

    def look(self, item: ItemIdentity = ITEM) -> Look:
        return self.rules.look(item, NOW_S)

    def end(self, look: Look, sighting: Sighting) -> None:
        self.rules.saw(look, sighting)
        self.rules.ended(look)

    def read(self, seen: Entry | None, *sources: Source) -> None:
        """Look an item up alone."""
        self.end(self.look(), self.sighting(seen, *sources))

    def shows(self, item: ItemIdentity = ITEM, now_s: float = NOW_S) -> str | None:
        """Return what a copy would answer now."""
        copy = self.rules.find(item, now_s, DELTA_S)
        return copy.entry.body.decode() if copy is not None else None


@pytest.fixture
def near() -> Near:
    return Near()


def test_what_a_lookup_saw_answers_the_next_read(near: Near) -> None:
    """A copy is kept, and its age counts from before the lookup was sent."""
    assert near.shows() is None
    near.read(entry())
    assert near.shows() == "1"
    copy = near.rules.find(ITEM, NOW_S, DELTA_S)
    assert copy is not None
    assert copy.store_now_ms(NOW_S + 2.0) == AHEAD_MS + 1000 * int(NOW_S + 2.0) + 1


def test_a_push_drops_the_copy(near: Near) -> None:
    """What changed, whoever changed it, is looked up again."""
    near.read(entry())
    near.rules.invalidated([CacheKey(b"another"), ITEM.cache_key])
    assert near.shows() is None


def test_a_push_during_the_lookup_keeps_the_copy_away(near: Near) -> None:
    """Change against lookup: the placeholder was there first."""
    look = near.look()
    near.rules.invalidated([ITEM.cache_key])
    near.end(look, near.sighting(entry()))
    assert near.shows() is None
    near.read(entry("2"))
    assert near.shows() == "2"


@pytest.mark.parametrize("since_s", [0.0, 0.1, 0.249])
def test_a_copy_stands_while_it_is_proven(near: Near, since_s: float) -> None:
    """For less than Δ after the last answered PING was sent."""
    near.read(entry())
    assert near.shows(now_s=NOW_S + since_s) == "1"


def test_a_silent_connection_proves_nothing(near: Near) -> None:
    """Silent connection: at Δ the copy does not stand; a later PING makes it stand again."""
    near.read(entry())
    assert near.shows(now_s=NOW_S + DELTA_S) is None
    near.lane.proven_s = NOW_S + 0.2
    assert near.shows(now_s=NOW_S + DELTA_S) == "1"


def test_each_connection_that_told_must_be_proven(near: Near) -> None:
    """An item and its table may come by two connections; one silent is enough."""
    other = Source()
    near.read(entry(), near.lane, other)
    assert near.shows() == "1"
    other.proven_s = NOW_S - DELTA_S
    assert near.shows() is None


def test_the_table_must_be_proven_too(near: Near) -> None:
    """A copy stands on its table's generation, which another lookup may have told."""
    first, second = identity("first"), identity("second")
    elsewhere = Source()
    near.end(near.look(first), near.sighting(entry(), elsewhere))
    near.end(near.look(second), near.sighting(entry()))
    assert near.shows(second) == "1"
    elsewhere.proven_s = -100.0
    assert near.shows(second) is None


def test_a_lost_connection_voids_what_it_told(near: Near) -> None:
    """All at once, however many copies; what another told stands."""
    near.read(entry())
    near.rules.lost(near.lane)
    near.rules.lost(Source())
    assert near.shows() is None
    near.read(entry())
    assert near.shows() == "1"


def test_a_connection_lost_during_the_lookup_tells_nothing(near: Near) -> None:
    """A push may have been lost with it."""
    near.read(entry())
    look = near.look()
    near.rules.lost(near.lane)
    near.end(look, near.sighting(entry()))
    assert near.shows() is None
    assert near.rules._told == {}


def test_a_connection_that_is_gone_is_replaced(near: Near) -> None:
    """The same entry, told by a connection that is there, is kept in the place of the older."""
    near.read(entry())
    near.lane.proven_s = -math.inf
    near.read(entry(), Source())
    assert near.shows() == "1"


def test_what_a_later_read_showed_drops_an_older_copy(near: Near) -> None:
    """Two lanes: another lane is ahead; time does not run backwards."""
    near.read(entry("1"))
    ahead = Source()
    look = near.look()
    near.rules.invalidated([])
    near.end(look, near.sighting(entry("2"), ahead))
    assert near.shows() == "2"


def test_an_absence_seen_later_drops_the_copy(near: Near) -> None:
    """A tombstone, a marker, or nothing: there is no entry any more."""
    near.read(entry("1"))
    near.read(None)
    assert near.shows() is None


def test_an_older_lookup_that_ends_last_is_not_kept(near: Near) -> None:
    """Two lanes, the other way round: what ended first was newer."""
    older, newer = near.look(), near.look()
    near.end(newer, near.sighting(entry("2"), Source()))
    near.end(older, near.sighting(entry("1")))
    assert near.shows() is None  # nobody can tell which of the two is newer


def test_an_older_lookup_that_ends_first_gives_way(near: Near) -> None:
    """What ended last may be newer: the copy of the first is dropped."""
    older, newer = near.look(), near.look()
    near.end(older, near.sighting(entry("1")))
    assert near.shows() == "1"
    near.end(newer, near.sighting(entry("2"), Source()))
    assert near.shows() is None


def test_lookups_that_agree_leave_the_copy(near: Near) -> None:
    """A hot item is looked up many times at once, and is kept by the first that ends."""
    looks = [near.look() for _ in range(3)]
    for look in looks:
        near.end(look, near.sighting(entry()))
        assert near.shows() == "1"
    near.rules.ended(near.look())
    assert near.rules._watches == {}


def test_what_was_fetched_drops_the_copy(near: Near) -> None:
    """An answer from upstream may show a write of which no push has come yet."""
    near.read(entry("1"))
    under_way = near.look()
    near.rules.shown(ITEM)
    assert near.shows() is None
    near.end(under_way, near.sighting(entry("1")))
    assert near.shows() is None


def test_an_own_write_drops_the_copy_before_it_begins(near: Near) -> None:
    """Own write, step 1: also of lookups that began before it."""
    near.read(entry("1"))
    before = near.look()
    near.rules.hold([ITEM.cache_key])
    assert near.shows() is None
    near.end(before, near.sighting(entry("1")))
    assert near.shows() is None


def test_nothing_is_kept_during_an_own_write(near: Near) -> None:
    """Own write, step 2: a lookup may pass the begin on its way."""
    near.rules.hold([ITEM.cache_key])
    near.rules.hold([ITEM.cache_key])
    near.rules.release([ITEM.cache_key])
    near.read(entry("1"))
    assert near.shows() is None


def test_nothing_is_kept_of_a_lookup_from_before_an_own_write_ended(near: Near) -> None:
    """Own write, step 3."""
    near.rules.hold([ITEM.cache_key])
    during = near.look()
    near.rules.release([ITEM.cache_key])
    near.end(during, near.sighting(entry("1")))
    assert near.shows() is None
    near.read(entry("2"))
    assert near.shows() == "2"


def test_an_own_write_to_a_table_voids_all_of_it(near: Near) -> None:
    """Before, during, and for lookups from before its end."""
    near.read(entry("1"))
    near.rules.hold([TABLE_KEY])
    assert near.shows() is None
    near.read(entry("1"))
    assert near.shows() is None
    during = near.look()
    near.rules.release([TABLE_KEY])
    near.end(during, near.sighting(entry("1")))
    assert near.shows() is None
    near.read(entry("1"))
    assert near.shows() == "1"


def test_a_push_for_the_table_voids_all_of_it(near: Near) -> None:
    """Until a lookup sees the same generation: then the other copies stand again."""
    first, second = identity("first"), identity("second")
    for item in (first, second):
        near.end(near.look(item), near.sighting(entry()))
    near.rules.invalidated([TABLE_KEY])
    assert (near.shows(first), near.shows(second)) == (None, None)
    near.end(near.look(first), near.sighting(entry()))
    assert (near.shows(first), near.shows(second)) == ("1", "1")


def test_another_generation_voids_older_copies_for_good(near: Near) -> None:
    """Their entries do not count any more, and leave when they are asked for."""
    first, second = identity("first"), identity("second")
    near.end(near.look(first), near.sighting(entry()))
    raised = near.sighting(entry("2", OTHER), generation=OTHER)
    near.end(near.look(second), raised)
    assert (near.shows(first), near.shows(second)) == (None, "2")
    assert near.cache.peek(first.cache_key) is None


def test_a_push_for_the_table_during_the_lookup_counts(near: Near) -> None:
    """The generation that it saw may be outdated."""
    look = near.look()
    near.rules.invalidated([TABLE_KEY])
    near.end(look, near.sighting(entry()))
    assert near.shows() is None


def test_an_older_generation_seen_last_is_not_believed(near: Near) -> None:
    """Two lanes: of two generations seen at one time nobody knows which is newer."""
    first, second = identity("first"), identity("second")
    older, newer = near.look(first), near.look(second)
    near.end(newer, near.sighting(entry("2", OTHER), Source(), generation=OTHER))
    near.end(older, near.sighting(entry("1")))
    assert (near.shows(first), near.shows(second)) == (None, None)


def test_a_write_in_flight_on_the_table_voids_all_of_it(near: Near) -> None:
    """Its items are read from upstream, so what is known of it is outdated."""
    near.read(entry())
    under_way = near.look(identity("second"))
    pending = near.sighting(None)._replace(table_pending=True)
    near.end(near.look(), pending)
    assert near.shows() is None
    near.end(under_way, near.sighting(entry()))
    assert near.shows(identity("second")) is None


def test_a_table_told_by_a_lost_connection_is_told_anew(near: Near) -> None:
    """By the next lookup; one from before the loss does not do."""
    near.read(entry())
    before = near.look(identity("second"))
    near.rules.lost(near.lane)
    near.end(before, near.sighting(entry()))
    assert near.shows() is None
    near.read(entry())
    assert near.shows() == "1"


def test_only_what_is_tracked_is_kept(near: Near) -> None:
    """Nobody would tell of a change."""
    look = near.look()
    near.end(look, near.sighting(entry())._replace(sources=()))
    assert near.shows() is None


@pytest.mark.parametrize(
    "partial", [entry()._replace(names=("a",)), entry()._replace(packing=Packing.ZSTD)]
)
def test_only_whole_entries_are_kept(near: Near, partial: Entry) -> None:
    """A copy answers every read of its item."""
    near.read(partial)
    assert near.shows() is None


def test_a_table_too_many_is_not_kept(near: Near, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of tables is bounded."""
    monkeypatch.setattr(near_rules, "TABLES_MAX", 1)
    near.read(entry())
    other = identity("other", CacheKey(b"another table"))
    near.end(near.look(other), near.sighting(entry()))
    assert (near.shows(), near.shows(other)) == ("1", None)
