"""Seeded histories of readers of one table's stream, with everything that goes wrong with streams.

Real readers, effects and proxies on virtual time; the store in memory, the fake's shards. One seed
decides who writes, splits, trims, delays, throttles, dies. The judgement, at every moment: an entry
that shows an older item than DynamoDB has is not older than what every reader publishes as its lag
(G10), and once all is well again no such entry is left.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.core.errors import StoreFailure
from proxy.core.policy import FencePolicy
from proxy.core.shard_progress import EMPTY_ANSWERS
from proxy.core.shard_tree import Start
from tests.fakes.fake_stream import FakeStream, Shard
from tests.fakes.fake_stream_records import unknown_event_name, without_keys
from tests.fakes.fake_upstream_tables import Table
from tests.support.flow_world import TABLE, Proxy, World, key_of
from tests.support.stream_world import Reading, StreamRig
from tests.support.virtual_time import VirtualTimeLoop

NAMES: Final = "abcdefghijkl"
SLACK_S: Final = 1.1
"""DynamoDB tells times in whole seconds, and a look at the entries takes a moment."""

CALM_S_MAX: Final = 200.0
"""Within it all is as it should be, once nothing goes wrong any more."""

SHARDS_OPEN_MAX: Final = 8


@dataclass
class Write:
    """One state of an item; `record` is where it is in the stream, None while that is off."""

    value: str | None
    at_s: float
    record: tuple[FakeStream, Shard, int] | None
    seen_s: float | None = None

    def visible(self) -> bool:
        """Whether a reader could have got its record: by way of all shards before its own."""
        if self.record is None:
            return False
        stream, shard, number = self.record
        before = stream.shards.get(shard.parent_id or "")
        while before is not None:
            if before.has_from(before.seen_to + 1):
                return False
            before = stream.shards.get(before.parent_id or "")
        return shard.seen_to >= number


@dataclass
class History:
    """What DynamoDB applied, by item."""

    writes: dict[str, list[Write]] = field(default_factory=dict)

    def newest(self, name: str) -> str | None:
        """Return an item's value."""
        past = self.writes.get(name)
        return past[-1].value if past else None


class StreamSimulation:
    """One history.

    Args:
        seed: decides everything.
        steps: how much happens.
    """

    def __init__(self, seed: int, steps: int = 120) -> None:
        self.chances = random.Random(seed)
        self.steps = steps
        self.history = History()
        self.violations: list[str] = []
        self.notes: list[str] = []
        self._values = 0

    def run(self) -> list[str]:
        """Let it happen; return what must not have happened."""
        # Debug mode would keep the stack of each step: several times the time of all else.
        with asyncio.Runner(debug=False, loop_factory=VirtualTimeLoop) as runner:
            runner.run(self._run())
        return self.violations

    async def _run(self) -> None:
        self.world = World(FencePolicy())
        tables = self.world.upstream.tables
        tables.streams.shards_at_first = self.chances.choice([1, 1, 2, 3])
        self.rig = StreamRig(
            self.world, self.chances.choice(["NEW_AND_OLD_IMAGES", "NEW_IMAGE", "KEYS_ONLY"])
        )
        tables.applied = self._applied
        self.proxies: list[Proxy] = [self.world.proxy() for _ in range(2)]
        self.readings: list[Reading] = []
        for _ in range(self.chances.choice([1, 2, 3])):
            self._start_reader()
        await self.world.clock.sleep(3.0)
        for _ in range(self.steps):
            self.world.clock.chance = self.chances.random()
            await self._step()
            await self.world.clock.sleep(self.chances.expovariate(2.0))
            await self._judge()
        await self._calm()
        self.violations += await self._unsettled()
        for proxy in self.proxies:
            await proxy.tasks.settle(0, self.world.clock.sleep)
        await self.rig.close()
        await self.world.upstream.close()

    def _applied(self, _table: Table, identity: tuple[object, ...], item: Any) -> None:
        name = str(identity[0])
        value = None if item is None else str(item["v"]["S"])
        past = self.history.writes.setdefault(name, [])
        if (past[-1].value if past else None) == value:
            return
        stream, record = self.rig.stream, None
        if stream.status == "ENABLED":  # the record is appended just after this is told
            record = stream, stream.shard_of(name), stream.next_number
        past.append(Write(value, self.world.clock.monotonic_s(), record))

    def _note(self, text: str) -> None:
        self.notes.append(f"{self.world.clock.monotonic_s():8.3f} {text}")

    # What happens

    async def _step(self) -> None:
        kinds: list[tuple[int, Callable[[], Any]]] = [
            (30, self._write_past),
            (12, self._write_through),
            (30, self._read),
            (3, self._split),
            (3, self._roll_over),
            (2, self._hold),
            (4, self._release),
            (2, self._hide),
            (3, self._show),
            (2, self._throttle),
            (2, self._expire_iterators),
            (1, self._trim),
            (2, self._kill_reader),
            (2, self._store_fault),
            (1, self._forget),
            (1, self._spoil),
            (1, self._stream_anew),
            (1, self._pause_upstream),
            (1, self._way),
        ]
        weights = [weight for weight, _ in kinds]
        (chosen,) = self.chances.choices([step for _, step in kinds], weights)
        self._note(chosen.__name__)
        outcome = chosen()
        if asyncio.iscoroutine(outcome):
            await outcome

    def _name(self) -> str:
        return self.chances.choice(NAMES)

    def _value(self) -> str:
        self._values += 1
        return str(self._values)

    def _write_past(self) -> None:
        for _ in range(self.chances.choice([1, 1, 2, 5])):
            name, tables = self._name(), self.world.upstream.tables
            fate = self.chances.random()
            if fate < 0.15:
                tables.call("DeleteItem", {"TableName": TABLE, "Key": key_of(name)})
            elif fate < 0.25:
                tables.expire(TABLE, key_of(name))
            else:
                self.world.put_elsewhere(name, self._value())

    async def _write_through(self) -> None:
        await self.chances.choice(self.proxies).put(self._name(), self._value())

    async def _read(self) -> None:
        for _ in range(4):
            await self.chances.choice(self.proxies).get(self._name())

    def _shard(self) -> Shard | None:
        shards = self.rig.stream.open_shards
        return self.chances.choice(shards) if shards else None

    def _split(self) -> None:
        shard = self._shard()
        if shard is not None and len(self.rig.stream.open_shards) < SHARDS_OPEN_MAX:
            self.rig.stream.split(shard)

    def _roll_over(self) -> None:
        if (shard := self._shard()) is not None:
            self.rig.stream.roll_over(shard)

    def _hold(self) -> None:
        self.rig.stream.hold(self.chances.choice([None, self._shard()]))

    def _release(self) -> None:
        self.rig.stream.release()

    def _hide(self) -> None:
        self.rig.stream.hide_new_shards()

    def _show(self) -> None:
        self.rig.stream.show_shards()

    def _throttle(self) -> None:
        operation = self.chances.choice(["GetRecords", "GetRecords", "DescribeStream"])
        error = self.chances.choice(["LimitExceededException", "InternalServerError"])
        self.world.upstream.tables.streams.refuse(operation, error, times=3)

    def _expire_iterators(self) -> None:
        self.world.upstream.tables.streams.expire_iterators()

    def _trim(self) -> None:
        self.rig.stream.show_shards()  # a day is over: children are listed long since
        # What was never begun would be lost silently: only who reads nothing for a day knows that.
        begun = {
            shard_id
            for shard_id, state in self.rig.shards().items()
            if state.checkpoint.start in {Start.AFTER, Start.DONE}
        }
        self.rig.stream.trim(shards=begun)

    async def _kill_reader(self) -> None:
        if len(self.readings) > 1 and self.chances.random() < 0.6:
            victim = self.readings.pop(self.chances.randrange(len(self.readings)))
            await victim.die()
        elif len(self.readings) < 4:
            self._start_reader()

    def _store_fault(self) -> None:
        reading = self.chances.choice(self.readings)
        for _ in range(self.chances.choice([1, 3, 10])):
            if self.chances.random() < 0.5:
                reading.store.fail_next(StoreFailure.TIMEOUT)
            else:
                reading.store.lose_next_reply()

    def _forget(self) -> None:
        self.world.store.flush()

    def _spoil(self) -> None:
        self.rig.stream.spoil(self.chances.choice([without_keys, unknown_event_name]))

    def _stream_anew(self) -> None:
        self.rig.stream.release()  # nobody will, once there is another
        self.rig.stream.show_shards()
        self.rig.stream.disable()
        self.world.upstream.tables.enable_stream(TABLE)

    async def _pause_upstream(self) -> None:
        """Let requests about the stream be answered late, as for a process that is stopped."""
        gate = self.world.upstream.hold("GetRecords", after_effect=True)
        await self.world.clock.sleep(self.chances.uniform(0.1, 15.0))
        gate.release()
        self.world.upstream.keep_held(gate)

    def _way(self) -> None:
        """Let readers go through parts without records, wherever they begin but at the end."""
        self.rig.stream.way = self.chances.choice([0, 3, EMPTY_ANSWERS - 1])

    def _start_reader(self) -> None:
        reading = self.rig.reading()
        reading.tasks.spawn(reading.reader.watch(), "watch")
        self.readings.append(reading)

    async def _calm(self) -> None:
        """Let everything be well again, and the readers read, until there is nothing to judge."""
        self.rig.stream.release()
        self.rig.stream.show_shards()
        self.world.upstream.release()
        until_s = self.world.clock.monotonic_s() + CALM_S_MAX
        while self.world.clock.monotonic_s() < until_s and await self._unsettled():
            await self.world.clock.sleep(5.0)

    # What is judged

    async def _cached(self, name: str) -> tuple[bool, str | None]:
        """Return whether an entry of an item is served, and what it shows."""
        body = {"TableName": TABLE, "Key": key_of(name)}
        answer = await self.proxies[0].ask("GetItem", body, X_Dynaside_Cache="only-if-cached")
        if answer.status != 200:
            return False, None
        item = json.loads(answer.body).get("Item")
        return True, None if item is None else item["v"]["S"]

    async def _judge(self) -> None:
        now_s = self.world.clock.monotonic_s()
        for stream in [self.rig.stream]:
            stream.settle()
        for past in self.history.writes.values():
            for write in past:
                if write.seen_s is None and write.visible():
                    write.seen_s = now_s
        lags = [reading.reader.lag_s for reading in self.readings]
        known = [lag_s for lag_s in lags if lag_s is not None]
        if not known:
            return
        for name, past in self.history.writes.items():
            served, value = await self._cached(name)
            if not served:
                continue
            after = self._overwritten(past, value)
            if after is None or after.seen_s is None:
                continue
            stale_s = now_s - max(after.seen_s, after.at_s)
            if stale_s > min(known) + SLACK_S:
                self.violations.append(
                    f"at {now_s:.2f} item {name} shows {value}, overwritten at {after.at_s:.2f},"
                    f" visible since {after.seen_s:.2f}; published lags {known}"
                )

    def _overwritten(self, past: list[Write], value: str | None) -> Write | None:
        """Return the write that made a value old, None while it is the newest."""
        places = [at for at, write in enumerate(past) if write.value == value]
        last = places[-1] if places else -1  # -1: absent before all writes
        return past[last + 1] if last + 1 < len(past) else None

    async def _unsettled(self) -> list[str]:
        """Return what must not be once all has been well for long."""
        found = []
        for name, past in self.history.writes.items():
            served, value = await self._cached(name)
            if served and value != past[-1].value:
                newest = past[-1].value
                found.append(f"in the end item {name} shows {value}, not {newest}")
        for reading in self.readings:
            lag_s = reading.reader.lag_s
            if lag_s is None or lag_s > 10.0:
                found.append(f"in the end the lag is {lag_s}")
        return found


def simulate_stream(seed: int) -> list[str]:
    """Return what must not have happened in one history."""
    return StreamSimulation(seed).run()
