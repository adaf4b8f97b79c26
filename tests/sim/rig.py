"""The parts of a simulated world: one store, one DynamoDB, and proxies that may stop or die.

Everything a proxy does with the world passes one of three doors (store, upstream, clock). A paused
proxy waits at the next door, which is as good as a pause anywhere: between doors nothing else runs.
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, TypeVar

from proxy.core.errors import StoreFailure, StoreUnavailable, UpstreamFailed, UpstreamFailure
from proxy.core.fence import ItemIdentity
from proxy.core.policy import FencePolicy
from proxy.core.record import EntryDraft
from proxy.core.values import TOKEN_BYTES, TableName, Token
from proxy.flow.ports import LookupReader, NearFeed, UpstreamReply, UpstreamRequest
from tests.fakes.fake_upstream_tables import DynamoError, Json, Table
from tests.fakes.memory_scripts import MemoryScripts, Records
from tests.fakes.memory_store import MemoryStore, tell_reader
from tests.fakes.memory_stream_store import MemoryStreams, MemoryStreamStore
from tests.fakes.memory_tracking import MemoryTracking, Message
from tests.fakes.streamed_tables import StreamedTables
from tests.sim.history import ABSENT, History

T = TypeVar("T")
Keep = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]

TABLE: Final = TableName("orders")
CALL_HEADER: Final = "X-Simulated-Call"
EPOCH_S: Final = 1_700_000_000.0
"""When DynamoDB's clock began."""

LATE_S: Final = 0.9
"""How long after its reply a write may still take effect: below the write time-out."""

PING_EVERY_S: Final = 0.1
_STORE_TIMEOUT_S: Final = 0.1
_SILENCE_S: Final = 1e6


@dataclass
class Weather:
    """How likely things go wrong now, and how long they take; chances from 0 to 1, times in s.

    Args:
        store_slow: a step takes longer than the store's time-out.
        store_lost: a step takes effect, or does not, and its reply never comes.
        upstream_ambiguous: a 500 whose write was or was not applied.
        upstream_late: a write of unknown outcome that is applied seconds later.
        upstream_throttled: a refusal.
        upstream_silent: no answer at all; applied or not.
        lag_s: how old an eventually consistent read may be.
    """

    store_slow: float = 0.0
    store_lost: float = 0.0
    upstream_ambiguous: float = 0.0
    upstream_late: float = 0.0
    upstream_throttled: float = 0.0
    upstream_silent: float = 0.0
    lag_s: float = 0.0


class SimClock:
    """A proxy's clock: the loop's virtual time, off by a constant, with seeded chances."""

    def __init__(self, chances: random.Random, door: Callable[[], Awaitable[None]]) -> None:
        self._chances = chances
        self._door = door
        self._offset_s = chances.uniform(0, 1e6)  # monotonic clocks have no common zero

    def monotonic_s(self) -> float:
        """Seconds since some moment of this proxy's own."""
        return asyncio.get_running_loop().time() + self._offset_s

    def wall_s(self) -> float:
        """Seconds since the epoch, as wrong as this proxy's clock is."""
        return EPOCH_S + self.monotonic_s()

    async def sleep(self, delay_s: float) -> None:
        """Suspend the caller."""
        await asyncio.sleep(delay_s)
        await self._door()

    def uniform(self, low: float, high: float) -> float:
        """Return a seeded chance."""
        return self._chances.uniform(low, high)

    def token(self) -> Token:
        """Return seeded random bytes."""
        return Token(self._chances.randbytes(TOKEN_BYTES))


@dataclass
class Doors:
    """Lets a proxy's calls through, one proxy at a time paused or dead."""

    awake: asyncio.Event = field(default_factory=asyncio.Event)
    dead: bool = False

    def __post_init__(self) -> None:
        self.awake.set()

    async def __call__(self) -> None:
        """Wait while the proxy is paused; a dead one never comes through."""
        await self.awake.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()


class StoreWorld:
    """The one store behind all links: may be down, fail over, or forget."""

    def __init__(self, clock: SimClock, fence: FencePolicy) -> None:
        self.memory = MemoryStore(clock, fence)
        self.streams = MemoryStreams()
        self._streams_then = MemoryStreams()
        self.epoch = 0
        self.gate_s = 0.0
        self._fence = fence
        self._clock = clock

    def link(self) -> MemoryStore:
        """Return the same store as another client sees it."""
        link = MemoryStore(self._clock, self._fence)
        link.scripts, link.incarnation = self.memory.scripts, self.memory.incarnation
        link._made = self.memory._made
        return link

    def snapshot(self) -> dict[bytes, Any]:
        """Return every record as it is now: what a replica has, those of streams beside."""
        self._streams_then = copy.deepcopy(self.streams)
        return dict(self.memory.scripts.records)

    def fail_over(self, records: dict[bytes, Any], *, quarantine_s: float) -> None:
        """Become another primary, which has only these records and opens its gate later."""
        self.epoch += 1
        self.gate_s = asyncio.get_running_loop().time() + quarantine_s
        scripts = MemoryScripts(self.memory.now_ms, self._fence)
        scripts.records = Records(records)
        self.memory.scripts = scripts
        self.streams = copy.deepcopy(self._streams_then) if records else MemoryStreams()
        self.memory.change_incarnation()


class SimWire:
    """The way of pushes and answered PINGs from the store to one proxy, in order and often late.

    Args:
        door: of the proxy.
        clock: of the proxy.
        chances: decide how late.
        keep: starts work, and holds on to it: what waits for a dead proxy has no other owner.
    """

    def __init__(self, door: Doors, clock: SimClock, chances: random.Random, keep: Keep) -> None:
        self._door = door
        self._clock = clock
        self._chances = chances
        self._keep = keep
        self._work: list[asyncio.Task[Any]] = []
        self._sent: asyncio.Queue[tuple[float, Message]] = asyncio.Queue()
        self.silent = False
        """Nothing arrives any more, and nobody has noticed yet."""

    def open(self, tracking: MemoryTracking) -> None:
        """Carry what a connection that was just made sends; nothing is proven yet."""
        self._tracking = tracking
        tracking.hand_on = self._put
        tracking.connection.answered_s = -math.inf
        self._work = [self._keep(each) for each in (self._carry(), self._ping(tracking))]

    def end(self) -> None:
        """Let the proxy notice that the connection is gone."""
        for task in self._work:
            task.cancel()
        self._tracking.disconnect()
        self._tracking.hand_on = _nowhere

    def _put(self, message: Message) -> None:
        self._sent.put_nowait((asyncio.get_running_loop().time() + self._way_s(), message))

    async def _carry(self) -> None:
        while True:
            due_s, message = await self._sent.get()
            await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
            await self._door()
            if not self.silent:
                message()

    async def _ping(self, tracking: MemoryTracking) -> None:
        while True:
            await self._door()
            sent_s = self._clock.monotonic_s()
            await asyncio.sleep(self._chances.expovariate(3000))
            if not self.silent:
                tracking.ping(sent_s)
            await asyncio.sleep(PING_EVERY_S)

    def _way_s(self) -> float:
        chances = self._chances
        return chances.uniform(0, 0.5) if chances.random() < 0.1 else chances.expovariate(3000)


def _nowhere(_message: Message) -> None:
    pass


class SimLink:
    """A `ports.Store` with a network in between; every method of the port goes through `_travel`.

    Steps of one link may overtake each other: a store that was stopped may run commands long after
    their callers gave up.
    """

    def __init__(
        self, world: StoreWorld, door: Doors, chances: random.Random, weather: Weather
    ) -> None:
        self._world = world
        self._door = door
        self._chances = chances
        self._weather = weather
        self._epoch = -1
        self._cut = False
        self._wire: SimWire | None = None
        self.track: Callable[[MemoryStore], SimWire] | None = None
        """Opens the way of pushes on a connection that was just made; None without near cache."""
        self.inner = world.link()

    @property
    def cut(self) -> bool:
        """Whether the proxy is cut off from the store."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        if self._wire is not None and cut:
            self._wire.silent = True
        elif self._cut and not cut:
            self.drop_wire()
        self._cut = cut

    def drop_wire(self) -> None:
        """Lose the connection that tracks, and make another."""
        if self._wire is not None:
            self._wire.end()
        if self.track is not None:
            self._wire = self.track(self.inner)

    @property
    def serving(self) -> bool:
        """As the store says, while this link is not cut."""
        return not self.cut and self.inner.serving

    @property
    def quarantined(self) -> bool:
        """As the store says."""
        return not self.cut and self.inner.quarantined

    @property
    def unfit(self) -> bool:
        """As the store says."""
        return self.inner.unfit

    @property
    def why_not_serving(self) -> str:
        """As the store says."""
        return "cut" if self.cut else self.inner.why_not_serving

    def __getattr__(self, step: str) -> Callable[..., Awaitable[Any]]:
        """Return a step of the port."""
        if step.startswith("_"):
            raise AttributeError(step)

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._travel(
                lambda there_s: getattr(self.inner, step)(*arguments, **_aged(named, there_s))
            )

        return call

    def look_up(self, identity: ItemIdentity, reader: LookupReader) -> None:
        """Look an item up and tell a reader."""
        tell_reader(self._travel(lambda _: self.inner.lookup(identity)), reader)

    @property
    def current(self) -> bool:
        """Whether this link knows the present primary."""
        return self._epoch == self._world.epoch

    async def reconnect(self) -> None:
        """Meet the present primary: nothing is served until its quarantine is over."""
        met = self.inner = self._world.link()
        self._epoch = self._world.epoch
        self._cut = False
        self.drop_wire()
        left_s = self._world.gate_s - asyncio.get_running_loop().time()
        if left_s > 0:
            met.stop_serving()
            await asyncio.sleep(left_s)
            met.start_serving()

    async def travel(self, step: Callable[[float], Awaitable[T]]) -> T:
        """Take a step of another port on the same way."""
        return await self._travel(step)

    async def _travel(self, step: Callable[[float], Awaitable[T]]) -> T:
        await self._door()
        if self.cut:
            raise StoreUnavailable(StoreFailure.CLOSED, "cut")
        weather, chances = self._weather, self._chances
        slow = chances.random() < weather.store_slow
        there_s = chances.uniform(0.0, 1.0) if slow else chances.expovariate(3000)
        lost = chances.random() < weather.store_lost
        effect = asyncio.ensure_future(self._effect(step, there_s, lost=lost))
        effect.add_done_callback(_seen)
        try:
            reply = await asyncio.wait_for(asyncio.shield(effect), _STORE_TIMEOUT_S)
        except TimeoutError:
            raise StoreUnavailable(StoreFailure.TIMEOUT, "silent") from None
        finally:
            await self._door()
        return reply

    async def _effect(
        self, step: Callable[[float], Awaitable[T]], there_s: float, *, lost: bool
    ) -> T:
        epoch = self._epoch
        await asyncio.sleep(there_s)
        if epoch != self._world.epoch:
            raise StoreUnavailable(StoreFailure.RESET, "the primary has gone")
        if lost and self._chances.random() < 0.5:
            raise StoreUnavailable(StoreFailure.RESET, "lost on the way there")
        reply = await step(there_s)
        await asyncio.sleep(self._chances.expovariate(3000))
        if self.track is not None and self._chances.random() < 0.1:
            # Pushes have a way of their own here, as where a process handles them first.
            await asyncio.sleep(self._chances.uniform(0, 0.9 * _STORE_TIMEOUT_S))
        if lost:
            raise StoreUnavailable(StoreFailure.RESET, "the reply was lost")
        return reply


class SimStreamLink:
    """A `ports.StreamStore` on the same network as a link."""

    def __init__(self, world: StoreWorld, link: SimLink) -> None:
        self._world = world
        self._link = link

    def __getattr__(self, step: str) -> Callable[..., Awaitable[Any]]:
        """Return a step of the port."""
        if step.startswith("_"):
            raise AttributeError(step)

        async def call(*arguments: Any, **named: Any) -> Any:
            def run(_: float) -> Awaitable[Any]:
                there = MemoryStreamStore(self._link.inner, self._world.streams)
                reply: Awaitable[Any] = getattr(there, step)(*arguments, **named)
                return reply

            return await self._link.travel(run)

        return call


class UpstreamWorld:
    """The one DynamoDB: the order in which it applies writes goes into the history."""

    def __init__(self, history: History) -> None:
        now_s = asyncio.get_running_loop().time
        self.tables = StreamedTables(now_s, lambda: EPOCH_S + now_s())
        self.tables.add(TABLE, pk="S")
        self.tables.applied = self._applied
        self.reads = 0
        self._history = history
        self._by = -1

    def run(self, request: UpstreamRequest, lag_s: float) -> tuple[int, bytes]:
        """Apply a request now; an eventually consistent read looks back by `lag_s`."""
        numbers = [text for name, text in request.headers if name == CALL_HEADER]
        self._by = int(numbers[0]) if numbers else -1
        self.reads += request.operation in {"GetItem", "BatchGetItem"}
        self.tables.lag_s = lag_s
        try:
            serve = self.tables.streams.call if request.streams else self.tables.call
            reply = serve(request.operation, json.loads(request.body))
        except DynamoError as error:
            return error.status, json.dumps(error.body).encode()
        return 200, json.dumps(reply).encode()

    def write_outside(self, operation: str, body: Json) -> None:
        """Let somebody write who knows of no proxy."""
        self._by = -1
        self.tables.call(operation, body)

    def _applied(self, table: Table, identity: tuple[object, ...], item: Json | None) -> None:
        value = ABSENT if item is None else str(item["v"]["S"])
        assert table.name == TABLE, "the simulation has one table"
        now_s = asyncio.get_running_loop().time()
        self._history.applied(int(str(identity[0])), value, now_s, self._by)


class SimUpstream:
    """The `Upstream` port of one proxy, with a network in between."""

    def __init__(
        self, world: UpstreamWorld, door: Doors, chances: random.Random, weather: Weather
    ) -> None:
        self._world = world
        self._door = door
        self._chances = chances
        self._weather = weather

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request; what it does at DynamoDB goes on without its sender."""
        await self._door()
        served = asyncio.ensure_future(self._serve(request))
        served.add_done_callback(_seen)
        try:
            return await asyncio.wait_for(asyncio.shield(served), request.timeout_s)
        except TimeoutError:
            failed = UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)
            raise failed from None
        finally:
            await self._door()

    async def _serve(self, request: UpstreamRequest) -> UpstreamReply:
        weather, chances = self._weather, self._chances
        await asyncio.sleep(_way_s(chances))
        lag_s = chances.uniform(0, weather.lag_s)
        fate = chances.random()
        if fate < weather.upstream_throttled:
            return _error(400, "ProvisionedThroughputExceededException")
        fate -= weather.upstream_throttled
        if fate < weather.upstream_ambiguous:
            if chances.random() < 0.5:
                self._world.run(request, lag_s)
            return _error(500, "InternalServerError")
        fate -= weather.upstream_ambiguous
        if fate < weather.upstream_late:
            loop = asyncio.get_running_loop()
            loop.call_later(chances.uniform(0, LATE_S), self._world.run, request, lag_s)
            return _error(500, "InternalServerError")
        fate -= weather.upstream_late
        if fate < weather.upstream_silent:
            if chances.random() < 0.5:
                self._world.run(request, lag_s)
            await asyncio.sleep(_SILENCE_S)
        status, body = self._world.run(request, lag_s)
        await asyncio.sleep(_way_s(chances))
        headers = (
            ("Content-Type", "application/x-amz-json-1.0"),
            ("Date", formatdate(EPOCH_S + asyncio.get_running_loop().time(), usegmt=True)),
        )
        return UpstreamReply(status, headers, body)


def tracked_by(feed: NearFeed, make: Callable[[], SimWire]) -> Callable[[MemoryStore], SimWire]:
    """Return what opens the way of pushes from a store to one proxy's near cache."""

    def track(store: MemoryStore) -> SimWire:
        store.track(feed)
        assert store.tracking is not None, "a link that tracks"
        wire = make()
        wire.open(store.tracking)
        return wire

    return track


def _way_s(chances: random.Random) -> float:
    """Return how long one way to DynamoDB takes: mostly 5 ms, now and then much longer."""
    return chances.uniform(0, 0.4) if chances.random() < 0.2 else chances.expovariate(200)


def _aged(named: dict[str, Any], there_s: float) -> dict[str, Any]:
    """Let an entry on its way to the store grow older: its age counts from when it was asked."""

    def older(draft: EntryDraft) -> EntryDraft:
        return draft._replace(age_s=draft.age_s + there_s)

    match named:
        case {"draft": EntryDraft() as draft}:
            return {**named, "draft": older(draft)}
        case {"stored": (generation, EntryDraft() as draft)}:
            return {**named, "stored": (generation, older(draft))}
        case _:
            return named


def _error(status: int, name: str) -> UpstreamReply:
    kind = f"com.amazonaws.dynamodb.v20120810#{name}"
    return UpstreamReply(status, (), f'{{"__type":"{kind}"}}'.encode())


def _seen(task: asyncio.Future[Any]) -> None:
    """Read a task's exception: its waiter may have gone."""
    if not task.cancelled():
        task.exception()
