"""Keeps lanes to every primary of a cluster, and the map that says which record is where.

Each node is a store of its own: its lanes know its incarnation, its clock and its gate, and an
entry counts only under those of the connection that read it. So a node that is out, or new, takes
only its own records with it, and a record that came from another node with its slot is not served:
its entry is of another incarnation, while its markers and tombstones hold as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError

from proxy.core.cache_key import KeySpace
from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.store_fitness import Flaw
from proxy.core.values import CacheKey, Incarnation
from proxy.edge.redis_connection import Address, ask_once, connection_to
from proxy.edge.redis_lanes import RedisLanes
from proxy.edge.redis_options import StoreOptions
from proxy.edge.redis_slots import MAP_QUESTIONS, SlotMap, parse_map, slot_of
from proxy.flow.events import (
    Emit,
    Event,
    StoreConnections,
    StoreEvictions,
    StoreFitness,
    StoreServing,
)
from proxy.flow.ports import Clock, NearFeed

NODES_MAX: Final = 1000  # what the specification recommends as the most
_ASKED_AT_ONCE: Final = 3
_LOOK_S: Final = 0.5
_LOOKS_PER_MAP: Final = 20


@dataclass(slots=True, eq=False)
class _Node:
    """A primary: its lanes, what they told last, and whether somebody was sent here lately."""

    lanes: RedisLanes = field(init=False)
    task: asyncio.Task[None] = field(init=False)
    open_now: int = 0
    evicted_total: int = 0
    sent_to: bool = False


class RedisCluster:
    """A cluster's nodes; see `redis_courier.Routes`.

    Args:
        options: some of the nodes, and how far to trust them all.
        keys: names the gates' records.
        clock: time and sleep.
        emit: takes events.
    """

    def __init__(self, options: StoreOptions, *, keys: KeySpace, clock: Clock, emit: Emit) -> None:
        self._options = options
        self._keys = keys
        self._clock = clock
        self._emit = emit
        self._slots = SlotMap()
        self._nodes: dict[Address, _Node] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._map_wanted = True
        self._problem = "the cluster's map is not known yet"
        self._track: Callable[[RedisLanes], None] = lambda _: None
        self._told: StoreServing | None = None
        self._told_fitness: StoreFitness | None = None

    async def serve(self) -> None:
        """Keep the map and the lanes of all nodes for ever; cancel to stop."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks, self._slots, self._nodes = tasks, SlotMap(), {}
            while True:
                await self._renew_map()
                for _ in range(_LOOKS_PER_MAP):
                    await self._clock.sleep(_LOOK_S)
                    if self._map_wanted or not all(each.lanes.connected for each in self._mapped):
                        break

    def track(self, feed: NearFeed, *, ping_s: float) -> None:
        """Let every connection tell of changes to what is read on it; before `serve`."""
        self._track = lambda lanes: lanes.track(feed, ping_s=ping_s)

    @property
    def serving(self) -> bool:
        """Whether some node serves."""
        return any(node.lanes.serving for node in self._nodes.values())

    @property
    def quarantined(self) -> bool:
        """Whether no node serves, and one of them only waits for its quarantine to end."""
        return not self.serving and any(node.lanes.quarantined for node in self._mapped)

    @property
    def why_not_serving(self) -> str:
        """In a few words, what is out."""
        mapped, reasons = self._mapped, self._reasons
        if not mapped:
            return self._problem
        if reasons:
            return f"{len(reasons)} of the cluster's {len(mapped)} nodes: {reasons[0]}"
        return "" if self._slots.covers_all else "some slots have no node"

    @property
    def unfit(self) -> bool:
        """Whether some node may lose what level `strict` stands on."""
        return any(node.lanes.fitness.unfit for node in self._nodes.values())

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        """What any of the nodes lacks for `strict`."""
        return tuple(flaw for flaw in Flaw if flaw in self._all_flaws())

    def lanes_for(self, cache_key: CacheKey) -> RedisLanes:
        """Return the lanes to the node that has a record's slot."""
        owner = self._slots.owners[slot_of(cache_key)]
        if owner is None:
            reason = self.why_not_serving or "no node has the record's slot"
            raise StoreUnavailable(StoreFailure.CLOSED, reason)
        return self._nodes[owner].lanes

    def elsewhere(self, told_by: RedisLanes, redirect: AskError) -> RedisLanes:
        """Return the lanes to where a node sent us; a slot that moved for good is noted.

        A node that takes a slot over may have another incarnation since, and another gate: it
        serves nothing until it was asked again.
        """
        sender = next((at for at, node in self._nodes.items() if node.lanes is told_by), None)
        if sender is None:  # it was dropped meanwhile, so its word counts no more
            raise StoreUnavailable(StoreFailure.CLOSED, "the node has left the cluster")
        address = Address(redirect.host or sender.host, redirect.port)
        node = self._node(address)
        node.sent_to = True
        if isinstance(redirect, MovedError):
            self._map_wanted = True
            if self._slots.owners[redirect.slot_id] == sender:
                self._slots.move(redirect.slot_id, address)
                node.lanes.doubt()
        return node.lanes

    def blamed(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        """Say that only a part is out, where some node is connected."""
        partial_ = any(node.lanes.connected for node in self._mapped)
        return StoreUnavailable(unavailable.failure, str(unavailable), partial=partial_)

    @property
    def _mapped(self) -> list[_Node]:
        """The nodes that have slots."""
        return [self._nodes[address] for address in self._slots.nodes]

    @property
    def _reasons(self) -> list[str]:
        """Why each node that does not serve does not."""
        reasons = (node.lanes.why_not_serving for node in self._mapped)
        return [reason for reason in reasons if reason]

    async def _renew_map(self) -> None:
        """Ask a few nodes at a time for the map; the newest one of a cluster in order counts."""
        self._map_wanted = False
        known = sorted({*self._nodes, *self._options.cluster}, key=self._shuffled)
        best = SlotMap()
        for at in range(0, len(known), _ASKED_AT_ONCE):
            maps = await asyncio.gather(*map(self._ask, known[at : at + _ASKED_AT_ONCE]))
            best = max(best, *maps, key=lambda each: (each.whole, each.epoch))
            if best.whole:
                break
        if best.nodes:
            self._adopt(best)
        else:
            self._tell_serving()

    def _all_flaws(self) -> set[Flaw]:
        return {flaw for node in self._nodes.values() for flaw in node.lanes.fitness.flaws}

    def _shuffled(self, _: Address) -> float:
        return self._clock.uniform(0, 1)

    async def _ask(self, node: Address) -> SlotMap:
        connection = connection_to(node, self._options.access)
        timeout_s = self._options.limits.connect_timeout_s
        try:
            return parse_map(await ask_once(connection, *MAP_QUESTIONS, timeout_s=timeout_s), node)
        except StoreUnavailable as unavailable:
            self._problem = str(unavailable)
            return SlotMap()

    def _adopt(self, slots: SlotMap) -> None:
        gained, self._slots = slots.gained(self._slots), slots
        for address in slots.nodes:
            node = self._node(address)
            if address in gained:
                node.lanes.doubt()
        for address in self._nodes.keys() - slots.nodes:
            node = self._nodes[address]
            if node.sent_to:  # a node may be asked for records before it has a slot
                node.sent_to = False
            else:
                self._drop(address)

    def _node(self, address: Address) -> _Node:
        """Return a node, with lanes of its own from now on."""
        if (node := self._nodes.get(address)) is not None:
            return node
        if len(self._nodes) >= NODES_MAX:
            raise StoreUnavailable(StoreFailure.FULL, "the cluster has too many nodes")
        assert self._tasks is not None, "a node before the cluster is served"

        async def connect() -> AbstractConnection:
            return connection_to(address, self._options.access)

        node = self._nodes[address] = _Node()
        node.lanes = RedisLanes(
            self._options,
            connect=connect,
            gate_key=partial(self._gate_key, address),
            clock=self._clock,
            emit=partial(self._heard, node),
        )
        self._track(node.lanes)
        node.task = self._tasks.create_task(node.lanes.serve())
        return node

    def _drop(self, address: Address) -> None:
        self._nodes.pop(address).task.cancel()
        self._tell_connections(0)
        self._tell_serving()
        self._tell_fitness(demanded=self._options.fitness_demanded)

    def _gate_key(self, node: Address, incarnation: Incarnation) -> CacheKey | None:
        tag = self._slots.tag_of(node)
        return None if tag is None else self._keys.gate_key(incarnation, tag)

    def _heard(self, node: _Node, event: Event) -> None:
        """Pass on what a node's lanes tell, as of the whole cluster."""
        match event:
            case StoreConnections(open_now=open_now, opened=opened):
                node.open_now = open_now
                self._tell_connections(opened)
            case StoreEvictions(evicted_total=total):
                node.evicted_total = total
                self._emit(StoreEvictions(sum(n.evicted_total for n in self._nodes.values())))
            case StoreServing():
                self._tell_serving()
            case StoreFitness(demanded=demanded):
                self._tell_fitness(demanded=demanded)
            case _:
                self._emit(event)

    def _tell_connections(self, opened: int) -> None:
        self._emit(StoreConnections(sum(n.open_now for n in self._nodes.values()), opened))

    def _tell_serving(self) -> None:
        told = StoreServing(self.serving, self.why_not_serving, len(self._reasons))
        if told != self._told:
            self._told = told
            self._emit(told)

    def _tell_fitness(self, *, demanded: bool) -> None:
        told = StoreFitness(self.flaws, demanded)
        if told != self._told_fitness:
            self._told_fitness = told
            self._emit(told)
