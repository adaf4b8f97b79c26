"""One run: a seed decides who does what and what goes wrong; a profile, what is promised."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Protocol, TypeVar, cast

from proxy.core.breaker import Breaker
from proxy.core.cache_key import KeySpace
from proxy.core.cache_status import cache_status
from proxy.core.hits import Hit
from proxy.core.record import Pending, decode_record
from proxy.core.request import DATA_TARGET_PREFIX, Answer, ClientRequest
from proxy.core.shard_progress import EMPTY_ANSWERS
from proxy.core.shard_tree import Start
from proxy.core.values import Outcome
from proxy.flow.at_once import AtOnce
from proxy.flow.debts import Debts
from proxy.flow.dispatcher import Dispatcher
from proxy.flow.events import Event, InvariantViolated, RefreshEnded
from proxy.flow.guarded_store import GuardedStore
from proxy.flow.hot_reads import Sampling
from proxy.flow.mode_switch import ModeSwitch
from proxy.flow.near_reads import NearReads
from proxy.flow.ports import Store, StreamStore
from proxy.flow.store_hits import Answers, StoreHits
from proxy.flow.streams import Streams
from proxy.flow.tasks import TaskOwner
from proxy.flow_graph import FlowGraph
from proxy.settings import Settings, load_settings
from proxy.stream_graph import StreamGraph
from tests.fakes.fake_stream_records import VIEW_TYPES
from tests.sim.history import ABSENT, Call, History, Kind
from tests.sim.rig import (
    CALL_HEADER,
    TABLE,
    Doors,
    SimClock,
    SimLink,
    SimStreamLink,
    SimUpstream,
    SimWire,
    StoreWorld,
    UpstreamWorld,
    Weather,
    tracked_by,
)
from tests.support.asked import Asked
from tests.support.virtual_time import VirtualTimeLoop

ALL_HOT: Final = Sampling(every=3, hot=1.0)
"""A history is too short for samples: what was seen once is refreshed ahead of time. Not every read
is looked at: hits that stand are those that are not."""

SETTLE_S: Final = 30.0
"""After the last client everything that still runs has this long: longer than any marker."""

PAY_EVERY_S: Final = 0.5
"""Debts are paid less often than in a real process: a history's cost is its number of timers."""

T = TypeVar("T")
_Body = dict[str, Any]
_Shown = Callable[[int, _Body], list[_Body] | None]
"""Finds the item in an answer; None where the answer leaves it out."""


class _MakeRead(Protocol):
    def __call__(self, item: int, *, consistent: bool) -> _Body: ...


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What is simulated: settings, and which faults may come.

    Args:
        name: of the profile, for the command line.
        settings: dotted names to the values that a seed may draw from.
        faults: names of `Run`'s methods that break something; a seed draws some of them.
        weather: the worst chances that a seed may draw.
        checkers: each takes the history and returns violations.
        operations: the only ones that clients use; empty for all.
    """

    name: str
    settings: Mapping[str, tuple[object, ...]]
    faults: tuple[str, ...]
    weather: Weather
    checkers: tuple[Callable[[History], list[str]], ...]
    operations: frozenset[str] = frozenset()


@dataclass
class Result:
    """What came of one run."""

    seed: int
    violations: list[str]
    history: History
    outcomes: Counter[str]


@dataclass
class SimProxy:
    """One process: its flows on its own doors."""

    number: int
    door: Doors
    link: SimLink
    near: NearReads
    dispatcher: Dispatcher
    at_once: AtOnce | None
    store_hits: StoreHits


_ReadKind = tuple[str, _MakeRead, _Shown]
"""Operation, its body, and how its answer shows the item."""


def simulate(profile: Profile, seed: int, *, steps: int = 40) -> Result:
    """Run one history of about `steps` client calls and judge it."""
    loop = VirtualTimeLoop()
    loop.set_debug(False)
    try:
        run = loop.run_until_complete(_played(profile, seed, steps))
    finally:
        loop.close()
    violations = [f"invariant: {where}" for where in run.invariants]
    for check in profile.checkers:
        violations += check(run.history)
    return Result(seed, violations, run.history, run.outcomes)


async def _played(profile: Profile, seed: int, steps: int) -> Run:
    run = Run(profile, random.Random(seed), steps)
    try:
        await run.play()
    finally:
        await _end_everything()
    return run


@cache
def _settings(drawn: tuple[tuple[str, object], ...]) -> Settings:
    given = {
        "upstream.region": "us-east-1",
        "store.url": "redis://nowhere",
        "audit.share": 0,
        **dict(drawn),
    }
    return load_settings(flags=given, environ={})


class Run:
    """One history in the making."""

    def __init__(self, profile: Profile, chances: random.Random, steps: int) -> None:
        self._chances = chances
        drawn = ((name, chances.choice(values)) for name, values in profile.settings.items())
        self._settings = _settings(tuple(drawn))
        # Not everything at once: many small storms find more than one that is all of them.
        self._faults = _some(chances, profile.faults)
        used = profile.operations
        self._writes = _some(chances, [kind for kind in WRITES if not used or kind[0] in used])
        pages = self._settings.default_policy.queries.enabled
        reads = (*READS, *PAGE_READS) if pages else READS
        self._reads = _some(chances, [kind for kind in reads if not used or kind[0] in used])
        self._steps_left = steps
        self.history = History()
        self.outcomes: Counter[str] = Counter()
        self.invariants: list[str] = []
        worst = profile.weather
        self._weather = Weather(
            **{name: chances.choice((0.0, worst_of)) for name, worst_of in vars(worst).items()}
        )
        clock = SimClock(chances, Doors())
        self._store = StoreWorld(clock, self._settings.fence_policy())
        self._upstream = UpstreamWorld(self.history)
        self._keys = KeySpace("sim", "us-east-1")
        self._items = chances.choice((1, 1, 2))
        self._background: set[asyncio.Task[Any]] = set()
        self._started = 0
        self._streams: dict[int, Streams] = {}
        if self._settings.streamed:
            self._upstream.tables.enable_stream(TABLE, chances.choice(VIEW_TYPES))
        self._killed: list[SimProxy] = []
        self._proxies = [self._start_proxy() for _ in range(chances.choice((2, 2, 3)))]
        self._replica = self._store.snapshot()

    async def play(self) -> None:
        """Let clients and faults loose until the steps are used up, then let all settle."""
        clients = [self._client() for _ in range(self._chances.randint(3, 6))]
        if self._settings.streamed:
            clients.append(self._outsider())
        trouble = asyncio.ensure_future(self._trouble())
        await asyncio.gather(*clients)
        trouble.cancel()
        self._heal()
        if self._settings.streamed:
            self._turn_on(VIEW_TYPES[0])
            self._upstream.tables.stream(TABLE).release()
            self._upstream.tables.streams.relent()
        await asyncio.sleep(SETTLE_S)
        self.history.quiet = self.history.tick()
        for item in range(self._items):
            for proxy in self._proxies:
                await self._read(proxy, item)

    # Clients

    async def _client(self) -> None:
        pace_s = self._chances.choice((0.001, 0.01, 0.1, 1.0))
        while self._steps_left > 0:
            self._steps_left -= 1
            proxy = self._chances.choice(self._proxies)
            item = self._chances.randrange(self._items)
            # A client gives up on a proxy that is stopped or dead; the call stays unanswered.
            with suppress(TimeoutError):
                patience_s = self._chances.choice((0.05, 10.0))
                async with asyncio.timeout(patience_s):
                    await self._operate(proxy, item)
            await asyncio.sleep(self._chances.expovariate(1 / pace_s))

    async def _outsider(self) -> None:
        """Write past every proxy, as a console or a batch job does."""
        pace_s = self._chances.choice((0.01, 0.1, 1.0, 5.0))
        number = 0
        while self._steps_left > 0:
            await asyncio.sleep(self._chances.expovariate(1 / pace_s))
            item, number = self._chances.randrange(self._items), number + 1
            if self._chances.random() < 0.2:
                self._upstream.write_outside("DeleteItem", _delete(item, ""))
            else:
                self._upstream.write_outside("PutItem", _put(item, f"o{number}"))

    async def _operate(self, proxy: SimProxy, item: int) -> None:
        if self._chances.random() < 0.1:
            self._replica = self._store.snapshot()  # the store's replica catches up
        if self._chances.random() < 0.7:
            await self._read(proxy, item, consistent=self._chances.random() < 0.1)
        else:
            await self._write(proxy, item)

    async def _read(self, proxy: SimProxy, item: int, *, consistent: bool = False) -> None:
        operation, make, shown = self._chances.choice(self._reads)
        body = make(item, consistent=consistent)
        call, answer = await self._call(proxy, item, Kind.READ, operation, lambda _: body)
        if answer.status == 200:
            items = shown(item, json.loads(answer.body))
            if items is not None:
                call.value = items[0]["v"]["S"] if items else ABSENT
        self._ended(call, answer)

    async def _write(self, proxy: SimProxy, item: int) -> None:
        operation, make = self._chances.choice(self._writes)
        call, answer = await self._call(
            proxy, item, Kind.WRITE, operation, lambda number: make(item, str(number))
        )
        call.acknowledged = answer.status == 200
        self._ended(call, answer)

    async def _call(
        self, proxy: SimProxy, item: int, kind: Kind, operation: str, make: Callable[[int], _Body]
    ) -> tuple[Call, Answer]:
        number = len(self.history.calls)
        now_s = asyncio.get_running_loop().time()
        call = Call(number, kind, proxy.number, item, self.history.tick(), now_s)
        self.history.calls.append(call)
        fields = (
            ("X-Amz-Target", DATA_TARGET_PREFIX + operation),
            ("Authorization", "AWS4-HMAC-SHA256"),
            (CALL_HEADER, str(number)),
        )
        request = ClientRequest("POST", "/", fields, json.dumps(make(number)).encode())
        await proxy.door()
        # As the server does: a client that hangs up does not cancel the handler.
        handler = self._keep(self._answer(proxy, request))
        answer = await asyncio.shield(handler)
        return call, answer

    async def _answer(self, proxy: SimProxy, request: ClientRequest) -> Answer:
        answer = await self._answer_of(proxy, request)
        await proxy.door()
        return answer

    async def _answer_of(self, proxy: SimProxy, request: ClientRequest) -> Answer:
        """Answer a request as the server's fast door would."""
        found: Hit | Answers | None = None
        if proxy.at_once is not None and request.operation == "GetItem":
            stood = proxy.near.cache.standing.get(request.body)
            found = proxy.at_once.answer(request.body)
            self.outcomes["at once"] += found is not None
            self.outcomes["stood"] += found is not None and found is stood
            if found is None:
                asker = Asked()
                proxy.store_hits.look_up(request.body, asker)
                found = await asker.told
                self.outcomes["by one lookup"] += isinstance(found, Hit)
        if isinstance(found, Hit):
            return found.answer
        return await (found or proxy.dispatcher.answer)(request)

    def _ended(self, call: Call, answer: Answer) -> None:
        call.ended = self.history.tick()
        call.ended_s = asyncio.get_running_loop().time()
        call.how = cache_status(answer)
        self.outcomes[answer.outcome.value] += 1
        self.outcomes["near"] += (answer.detail or "").startswith("near")
        if answer.outcome is Outcome.BYPASS and answer.reason is not None:
            self.outcomes[f"bypass {answer.reason}"] += 1

    # Proxies

    def _start_proxy(self) -> SimProxy:
        door = Doors()
        chances = random.Random(self._chances.random())
        clock = SimClock(chances, door)
        link = SimLink(self._store, door, chances, self._weather)
        breaker = Breaker(failures_to_open=3, open_s=1.0)

        def emit(event: Event) -> None:
            if isinstance(event, InvariantViolated):
                self.invariants.append(event.where)
            self.outcomes["refreshed"] += isinstance(event, RefreshEnded) and event.replaced

        store = GuardedStore(cast("Store", link), breaker=breaker, clock=clock, emit=emit)
        debts = Debts(clock=clock, emit=emit, debts_max=100)
        tasks = TaskOwner(emit)
        modes = ModeSwitch(self._settings.policy_of, emit=emit)
        upstream = SimUpstream(self._upstream, door, chances, self._weather)
        streams = StreamGraph(self._settings, keys=self._keys, clock=clock, emit=emit).streams(
            upstream,
            store,
            cast("StreamStore", SimStreamLink(self._store, link)),
            modes.policy_of,
        )
        graph = FlowGraph(
            self._settings,
            clock,
            emit,
            tasks,
            self._keys,
            store,
            debts,
            modes,
            sampling=ALL_HOT,
            lags=streams.policies if streams is not None else None,
        )
        self._started += 1
        flows = graph.flows(upstream)
        if self._settings.near.bytes_max:
            make = partial(SimWire, door, clock, chances, self._keep)
            link.track = tracked_by(flows.near, make)
        proxy = SimProxy(
            *(self._started, door, link, flows.near),
            *(flows.dispatcher, flows.at_once, flows.store_hits),
        )
        self._keep(link.reconnect())
        self._keep(_pay(debts, clock))
        if streams is not None:
            self._keep(streams.watch())
            self._streams[proxy.number] = streams
        return proxy

    # Faults

    async def _trouble(self) -> None:
        pace_s = self._chances.choice((0.03, 0.3, 3.0, 10.0))
        while True:
            await asyncio.sleep(self._chances.expovariate(1 / pace_s))
            getattr(self, self._chances.choice(self._faults))()

    def pause(self) -> None:
        """Stop a proxy and let it go on later (SIGSTOP, SIGCONT)."""
        proxy = self._chances.choice(self._proxies)
        proxy.door.awake.clear()
        for_s = self._chances.choice((0.05, 0.5, 2.5, 4.0, 10.0))
        asyncio.get_running_loop().call_later(for_s, proxy.door.awake.set)

    def kill(self) -> None:
        """End a proxy at once (SIGKILL) and start another."""
        victim = self._proxies.pop(self._chances.randrange(len(self._proxies)))
        victim.door.dead = True
        self._killed.append(victim)  # its refreshes wait for ever, and nobody else holds on to them
        self._proxies.append(self._start_proxy())

    def cut(self) -> None:
        """Cut one proxy off from the store for a while."""
        proxy = self._chances.choice(self._proxies)
        proxy.link.cut = True
        self._later(self._chances.choice((0.1, 1.0, 5.0)), partial(_uncut, proxy.link))

    def outage(self) -> None:
        """Cut every proxy off from the store for a while."""
        for_s = self._chances.choice((0.1, 1.0, 5.0))
        for proxy in self._proxies:
            proxy.link.cut = True
            self._later(for_s, partial(_uncut, proxy.link))

    def drop_wire(self) -> None:
        """Break the connection that pushes changes to a proxy; it makes another."""
        self._chances.choice(self._proxies).link.drop_wire()

    def fail_over(self) -> None:
        """Promote the replica: what came after its last word is lost."""
        self._store.fail_over(self._replica, quarantine_s=self._settings.store.quarantine_s)
        for proxy in self._proxies:
            proxy.link.cut = True
            self._keep(self._reconnected(proxy.link))

    def restart_store(self) -> None:
        """Restart the store empty."""
        self._replica = {}
        self.fail_over()

    def flush(self) -> None:
        """Drop every record, markers too, of the same primary."""
        self._store.memory.scripts.records.clear()
        self._store.streams.forget(None)

    def evict(self) -> None:
        """Drop a record that is no marker."""
        records = self._store.memory.scripts.records
        names = [
            name
            for name, stored in sorted(records.items())
            if not isinstance(decode_record(stored.raw), Pending)
        ]
        if names:
            del records[self._chances.choice(names)]

    def purge(self) -> None:
        """Invalidate an item from outside, as a stream record or an operator does."""
        item = self._chances.randrange(self._items)
        identity = self._keys.item(TABLE, _key(item))
        self._keep(self._store.memory.invalidate(identity))

    # What happens to the stream

    def split(self) -> None:
        """Close a shard of the stream; it has two children, or one."""
        stream = self._upstream.tables.stream(TABLE)
        if len(stream.open_shards) in range(1, 4):
            stream.split() if self._chances.random() < 0.5 else stream.roll_over()

    def expire_iterators(self) -> None:
        """Let every iterator be too old."""
        self._upstream.tables.streams.expire_iterators()

    def trim(self) -> None:
        """Drop all records that can be read: a gap to whoever has not read them.

        Not in shards that nobody has begun, whose readers would not be told. DynamoDB does so after
        a day, which is told from the time alone (`may_have_missed`).
        """
        known = self._store.streams.hashes[self._keys.stream_key(TABLE)].shards
        begun = {
            shard_id
            for shard_id, state in known.items()
            if state.checkpoint.start in {Start.AFTER, Start.DONE}
        }
        self._upstream.tables.stream(TABLE).trim(shards=begun)

    def lengthen_way(self) -> None:
        """Let readers that do not begin at the end go through parts without records."""
        self._upstream.tables.stream(TABLE).way = self._chances.randrange(EMPTY_ANSWERS)

    def hold_stream(self) -> None:
        """Show no records for a while."""
        stream = self._upstream.tables.stream(TABLE)
        stream.hold()
        self._later(self._chances.choice((0.5, 2.0)), stream.release)

    def turn_stream(self) -> None:
        """Switch the stream off, and on again a little later: it is another one then."""
        tables = self._upstream.tables
        if tables.stream(TABLE).status == "ENABLED":
            tables.stream(TABLE).disable()
            self._later(self._chances.choice((0.1, 2.0)), partial(self._turn_on, VIEW_TYPES[0]))

    def _turn_on(self, view: str) -> None:
        if self._upstream.tables.stream(TABLE).status != "ENABLED":
            self._upstream.tables.enable_stream(TABLE, view)

    def refuse_streams(self) -> None:
        """Throttle requests about streams, or fail them."""
        for operation in ("DescribeStream", "GetShardIterator", "GetRecords"):
            error = self._chances.choice(("LimitExceededException", "InternalServerError"))
            times = self._chances.randrange(4)
            self._upstream.tables.streams.refuse(operation, error, times=times)

    async def _reconnected(self, link: SimLink) -> None:
        await asyncio.sleep(self._chances.choice((0.01, 0.3, 2.0)))
        await link.reconnect()

    def _heal(self) -> None:
        """End every fault: paused proxies go on, links come back, the weather is fine."""
        for name in vars(self._weather):
            setattr(self._weather, name, 0.0)
        for proxy in self._proxies:
            proxy.door.awake.set()
            self._later(1.0, partial(_uncut, proxy.link))

    def _later(self, in_s: float, do: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(in_s, do)

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _some(chances: random.Random, of: Sequence[T]) -> list[T]:
    """Return a few of them, at least one."""
    return chances.sample(of, chances.randint(1, min(4, len(of))))


def _uncut(link: SimLink) -> None:
    if link.current:
        link.cut = False


async def _pay(debts: Debts, clock: SimClock) -> None:
    while True:
        await clock.sleep(PAY_EVERY_S)
        await debts.pay_ripe()


async def _end_everything() -> None:
    """Cancel what is left: paused and dead proxies wait for ever."""
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        # A task that is cancelled at one door may stand at the next one: cancelled again.
        await asyncio.wait(left, timeout=0.1)


def _key(item: int) -> _Body:
    return {"pk": {"S": str(item)}}


def _put(item: int, value: str) -> _Body:
    return {"TableName": TABLE, "Item": {**_key(item), "v": {"S": value}}}


def _refused(item: int, value: str) -> _Body:
    return _put(item, value) | {"ConditionExpression": "attribute_exists(nobody)"}


def _update(item: int, value: str) -> _Body:
    return {
        "TableName": TABLE,
        "Key": _key(item),
        "UpdateExpression": "SET v = :v",
        "ExpressionAttributeValues": {":v": {"S": value}},
    }


def _update_showing(item: int, value: str) -> _Body:
    return _update(item, value) | {"ReturnValues": "ALL_NEW"}


def _delete(item: int, _value: str) -> _Body:
    return {"TableName": TABLE, "Key": _key(item)}


def _transact(item: int, value: str) -> _Body:
    return {"TransactItems": [{"Put": _put(item, value)}], "ClientRequestToken": value}


def _batch(item: int, value: str) -> _Body:
    put = {"PutRequest": {"Item": {**_key(item), "v": {"S": value}}}}
    return {"RequestItems": {TABLE: [put]}}


def _get(item: int, *, consistent: bool) -> _Body:
    return {"TableName": TABLE, "Key": _key(item), "ConsistentRead": consistent}


def _batch_get(item: int, *, consistent: bool) -> _Body:
    wanted = {"Keys": [_key(item), _key(item + 1)], "ConsistentRead": consistent}
    return {"RequestItems": {TABLE: wanted}}


def _query(item: int, *, consistent: bool) -> _Body:
    return {
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": str(item)}},
        "ConsistentRead": consistent,
    }


def _scan(item: int, *, consistent: bool) -> _Body:
    return {"TableName": TABLE, "ConsistentRead": consistent}


def _shown_alone(item: int, answer: _Body) -> list[_Body] | None:
    return [answer["Item"]] if "Item" in answer else []


def _shown_in_batch(item: int, answer: _Body) -> list[_Body] | None:
    left = answer["UnprocessedKeys"].get(TABLE, {"Keys": []})["Keys"]
    return None if _key(item) in left else _of(item, answer["Responses"].get(TABLE, []))


def _shown_on_page(item: int, answer: _Body) -> list[_Body] | None:
    return _of(item, answer["Items"])


def _of(item: int, items: list[_Body]) -> list[_Body]:
    return [each for each in items if each["pk"] == _key(item)["pk"]]


READS: Final[tuple[_ReadKind, ...]] = (
    ("GetItem", _get, _shown_alone),
    ("GetItem", _get, _shown_alone),
    ("BatchGetItem", _batch_get, _shown_in_batch),
)
PAGE_READS: Final[tuple[_ReadKind, ...]] = (
    ("Query", _query, _shown_on_page),
    ("Scan", _scan, _shown_on_page),
)
WRITES: Final[tuple[tuple[str, Callable[[int, str], _Body]], ...]] = (
    ("PutItem", _put),
    ("PutItem", _put),
    ("PutItem", _put),
    ("PutItem", _refused),
    ("UpdateItem", _update),
    ("UpdateItem", _update_showing),
    ("UpdateItem", _update_showing),
    ("DeleteItem", _delete),
    ("BatchWriteItem", _batch),
    ("TransactWriteItems", _transact),
)
