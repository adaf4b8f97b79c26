"""Claims about shards: which may be read, by whom, and what a look at upstream changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.shard_tree import (
    MOVES,
    Checkpoint,
    Growth,
    NewShard,
    Shard,
    ShardState,
    Share,
    Start,
    Step,
    StreamView,
    childless,
    grow,
    share,
)
from proxy.core.values import Token

ME, YOU, THEY = Token(bytes(16)), Token(b"y" * 16), Token(b"t" * 16)
HORIZON, DONE = Checkpoint(Start.HORIZON), Checkpoint(Start.DONE)
NOW_MS, LATER_MS = 1_000, 9_000


def view(**shards: ShardState) -> StreamView:
    """Return a look at a stream of which I am the only reader."""
    return StreamView("arn", NOW_MS, shards, frozenset({ME}))


def left(parent: str | None = None, holder: Token | None = None) -> ShardState:
    """Return a shard to be read, held until later if by anybody."""
    return ShardState(parent, HORIZON, 1, holder, LATER_MS if holder else 0)


def done(parent: str | None = None) -> ShardState:
    """Return a shard that was read to its end."""
    return ShardState(parent, DONE)


# Places


@pytest.mark.parametrize("pair", list(product(Start, Step)), ids=str)
def test_a_place_moves_as_the_table_says_and_no_other_way(pair: tuple[Start, Step]) -> None:
    """Nothing follows the end, and only applied records have a number."""
    start, step = pair
    checkpoint = Checkpoint(start, "5" if start is Start.AFTER else "")
    if pair not in MOVES:
        with pytest.raises(KeyError):
            checkpoint.after(step, "6")
        return
    after = checkpoint.after(step, "6")
    assert after.start is MOVES[pair]
    assert after.sequence == ("6" if after.start is Start.AFTER else "")


# What may be read


def test_a_child_waits_for_its_parent() -> None:
    """Only once the parent is done, or upstream has it no more."""
    assert view(a=left(), b=left("a")).readable() == ["a"]
    assert view(a=done(), b=left("a")).readable() == ["b"]
    assert view(b=left("a")).readable() == ["b"]


def test_a_stream_is_as_far_as_its_last_shard() -> None:
    """Waiting ones count; nothing is known of a stream without shards."""
    early, late = replace(left(), as_of_ms=5), replace(left(), as_of_ms=3)
    assert view(a=early, b=late).as_of_ms() == 3
    assert view().as_of_ms() == 0


def test_a_shard_that_waits_is_as_of_those_before_it() -> None:
    """It began after whatever was read of them; a list that goes round is gone through once."""
    old, child, grandchild = replace(left(), as_of_ms=5), left("a"), replace(left("b"), as_of_ms=3)
    assert view(a=old, b=child, c=grandchild).as_of_ms() == 5
    assert view(a=replace(left("b"), as_of_ms=4), b=left("a")).as_of_ms() == 4


def test_a_stream_is_no_further_than_shards_whose_children_nobody_has_seen() -> None:
    """Changes go into them; a shard that has none for minutes will have none."""
    now_ms = 10**9
    ended, other = replace(done(), as_of_ms=now_ms - 9_000), replace(left(), as_of_ms=now_ms)
    shards = {"a": ended, "b": other}
    assert StreamView("arn", now_ms, shards).as_of_ms() == now_ms - 9_000
    child = replace(left("a"), as_of_ms=now_ms - 1)
    assert StreamView("arn", now_ms, {**shards, "c": child}).as_of_ms() == now_ms - 1
    assert StreamView("arn", now_ms + 291_000, shards).as_of_ms() == now_ms - 9_000
    assert StreamView("arn", now_ms + 291_001, shards).as_of_ms() == now_ms
    assert view(a=replace(done(), as_of_ms=5), b=replace(done(), as_of_ms=9)).as_of_ms() == 5
    old = {"a": replace(ended, as_of_ms=5), "b": replace(ended, as_of_ms=9)}
    assert StreamView("arn", now_ms, old).as_of_ms() == 9
    assert view(a=done(), b=replace(left(), as_of_ms=7)).as_of_ms() == 7  # voided when it began


def test_a_done_shard_without_a_child_is_told() -> None:
    """A split is seen a moment after the parent's end."""
    assert childless(view(a=done())) == ["a"]
    assert childless(view(a=done(), b=left("a"))) == []
    assert childless(view(a=left())) == []


# What a look at upstream changes


def test_a_new_stream_begins_at_its_latest_end() -> None:
    """Closed shards are done; a child of an open one begins at its own beginning."""
    listed = [Shard("a", closed=True), Shard("b", "a"), Shard("c", "b"), Shard("d")]
    growth = grow(StreamView("", NOW_MS, {}), "arn", listed)
    assert growth == Growth(
        (
            NewShard("a", None, Start.DONE),
            NewShard("b", "a", Start.LATEST),
            NewShard("c", "b", Start.HORIZON),
            NewShard("d", None, Start.LATEST),
        ),
        gone=(),
        lost=False,
    )


def test_another_stream_forgets_the_older_ones_shards() -> None:
    """A stream that was switched on again is another one."""
    growth = grow(view(a=left()), "other", [Shard("b")])
    assert (growth.added, growth.gone, growth.lost) == (
        (NewShard("b", None, Start.LATEST),),
        (),
        False,
    )


def test_only_unknown_shards_are_added() -> None:
    """What is known keeps its place."""
    growth = grow(view(a=left()), "arn", [Shard("a"), Shard("b", "a")])
    assert [each.shard_id for each in growth.added] == ["b"]


def test_a_shard_that_came_and_went_unseen_is_lost() -> None:
    """It is named as a parent by one that is there; a stream that is new is voided anyway."""
    listed = [Shard("a", closed=True), Shard("c", "b")]
    growth = grow(view(a=done()), "arn", listed)
    assert growth == Growth((NewShard("c", "b", Start.LATEST),), (), lost=True)
    assert not grow(StreamView("", NOW_MS, {}), "arn", listed).lost
    assert not grow(view(a=done()), "another", listed).lost
    assert not grow(view(a=done()), "arn", [*listed, Shard("b", "a", closed=True)]).lost
    assert not grow(view(a=done(), b=done("a")), "arn", [Shard("c", "b")]).lost


def test_a_shard_that_is_gone_before_it_was_read_is_lost() -> None:
    """One that was read to its end is only gone."""
    listed = [Shard("b", "a")]
    assert grow(view(a=done(), b=left("a")), "arn", listed) == Growth((), ("a",), lost=False)
    assert grow(view(a=left(), b=left("a")), "arn", listed) == Growth((), ("a",), lost=True)


# Who reads what


def test_a_lone_reader_takes_all_that_is_free() -> None:
    """Not what waits, nor what somebody holds."""
    seen = view(a=left(), b=left("a"), c=left(holder=THEY), d=left(holder=ME), e=done())
    assert share(seen, ME) == Share(("a",), ())


def test_an_expired_lease_is_free() -> None:
    """Whoever held it."""
    expired = replace(left(holder=THEY), deadline_ms=NOW_MS)
    assert share(view(a=expired), ME) == Share(("a",), ())


def test_readers_share_evenly() -> None:
    """The newcomer waits until others give up what is over their share."""
    shards = {each: left(holder=ME) for each in "abcd"}
    seen = replace(view(**shards), readers=frozenset({ME, YOU}))
    assert share(seen, ME) == Share((), ("c", "d"))
    assert share(seen, YOU) == Share((), ())
    given_up = {**shards, "c": left(), "d": left()}
    assert set(share(replace(seen, shards=given_up), YOU).take) == {"c", "d"}


def test_an_odd_shard_goes_round_no_circle() -> None:
    """Who holds one more than the others keeps it."""
    shards = {"a": left(holder=ME), "b": left(holder=ME), "c": left(holder=YOU)}
    seen = replace(view(**shards), readers=frozenset({ME, YOU}))
    assert share(seen, ME) == Share((), ())
    assert share(seen, YOU) == Share((), ())


# Any tree, any order of events


@dataclass
class Forest:
    """Upstream's shards, the store's record of them, and what was read when."""

    listed: dict[str, Shard] = field(default_factory=lambda: {"s0": Shard("s0")})
    known: dict[str, ShardState] = field(default_factory=dict)
    arn: str = ""
    now_ms: int = 1
    ended: list[str] = field(default_factory=list)

    @property
    def view(self) -> StreamView:
        return StreamView(self.arn, self.now_ms, dict(self.known), frozenset({ME, YOU, THEY}))

    def split(self, chance: int) -> None:
        """Close an open shard; its children, one or two, are open."""
        opened = [each for each in self.listed.values() if not each.closed]
        parent = opened[chance % len(opened)]
        self.listed[parent.shard_id] = replace(parent, closed=True)
        for _ in range(1 + chance % 2):
            child = f"s{len(self.listed)}"
            self.listed[child] = Shard(child, parent.shard_id)

    def discover(self) -> None:
        """Look at upstream."""
        growth = grow(self.view, "arn", self.listed.values())
        new = self.arn != "arn"
        self.arn = "arn"
        for each in growth.added:
            start = each.start if new else Start.HORIZON
            self.known[each.shard_id] = ShardState(each.parent, Checkpoint(start))

    def divide(self, reader: Token) -> None:
        """Let a reader take and give up shards."""
        divided = share(self.view, reader)
        for each in divided.take:
            state = self.known[each]
            fence, until_ms = state.fence + 1, self.now_ms + 5
            self.known[each] = replace(state, holder=reader, fence=fence, deadline_ms=until_ms)
        for each in divided.give:
            self.known[each] = replace(self.known[each], holder=None, deadline_ms=0)

    def read(self, reader: Token) -> None:
        """Let a reader take one step in each of its shards."""
        for shard_id in self.view.held_by(reader):
            state = self.known[shard_id]
            if state.checkpoint.start is Start.LATEST:
                step = Step.POSITIONED
            elif self.listed[shard_id].closed:
                step = Step.EXHAUSTED
                self.ended.append(shard_id)
            else:
                step = Step.APPLIED
            moved = state.checkpoint.after(step, "1")
            state = replace(state, checkpoint=moved)
            self.known[shard_id] = replace(state, holder=None) if state.done else state


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["split", "discover", "divide", "read", "wait"]),
            st.sampled_from([ME, YOU, THEY]),
            st.integers(0, 9),
        ),
        max_size=60,
    )
)
def test_no_child_is_read_before_its_parent_and_all_are_read(
    events: list[tuple[str, Token, int]],
) -> None:
    """Whatever splits when, and whoever reads or dies: in the end every closed shard is done."""
    forest = Forest()
    for event, reader, chance in events:
        match event:
            case "split":
                forest.split(chance)
            case "discover":
                forest.discover()
            case "divide":
                forest.divide(reader)
            case "read":
                forest.read(reader)
            case _:
                forest.now_ms += chance
    forest.discover()
    for _ in forest.listed:
        forest.now_ms += 10  # whoever held anything has died
        forest.divide(ME)
        forest.divide(YOU)
        forest.divide(THEY)
        for reader in (ME, YOU, THEY):
            forest.read(reader)
            forest.read(reader)
    for shard_id in forest.ended:
        parent = forest.listed[shard_id].parent
        if parent is not None and parent in forest.ended:
            assert forest.ended.index(parent) < forest.ended.index(shard_id)
    closed = {each.shard_id for each in forest.listed.values() if each.closed}
    assert {each for each, state in forest.known.items() if state.done} >= closed & set(
        forest.known
    )
    assert set(forest.known) == set(forest.listed)
