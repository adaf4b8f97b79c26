"""Proxies without sockets: the real flows over one memory store and one scripted upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from proxy.core.audit_gate import AuditGate
from proxy.core.cache_key import KeySpace
from proxy.core.fence import ItemIdentity
from proxy.core.hot_keys import HotKeys
from proxy.core.key_schema import KeySchema
from proxy.core.near_cache import NearCache
from proxy.core.near_rules import NearRules
from proxy.core.page_plan import QueryPlan
from proxy.core.plan import Plan, TablesWritePlan, WritePlan, make_plan
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import AuditPolicy, FencePolicy, NearPolicy, TablePolicy
from proxy.core.read_plan import BatchReadPlan, ReadPlan
from proxy.core.request import DATA_TARGET_PREFIX, Answer, ClientRequest
from proxy.core.values import TableName
from proxy.flow.ahead import AheadPorts, RefreshAhead
from proxy.flow.auditor import Auditor, AuditorPorts, heeding
from proxy.flow.batch_path import BatchPath
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debts
from proxy.flow.dispatcher import Dispatcher, DispatcherPorts
from proxy.flow.events import Event
from proxy.flow.exchange import Exchange, Timeouts
from proxy.flow.filler import Filler, Landing
from proxy.flow.hot_reads import SAMPLING, HotReads
from proxy.flow.near_reads import NearReads
from proxy.flow.query_path import QueryPath, QueryPorts
from proxy.flow.read_path import ReadPath, ReadPorts
from proxy.flow.schemas import SchemaBook
from proxy.flow.shadow import ReadPaths, Shadow, ShadowPorts, without_savings
from proxy.flow.table_watch import TableWatch
from proxy.flow.tasks import TaskOwner
from proxy.flow.write_path import WritePath, WritePorts
from tests.fakes.fake_upstream_tables import Json
from tests.fakes.memory_store import MemoryStore
from tests.fakes.scripted_upstream import ScriptedUpstream
from tests.fakes.virtual_clock import VirtualClock

E = TypeVar("E")

TABLE = TableName("orders")
READ_TIMEOUT_S = 5.0
CHECK_S = 10.0
REHEARSALS_MAX = 4
UNAUDITED = AuditPolicy(share=0.0)


def client_request(operation: str, body: Json | bytes, **headers: str) -> ClientRequest:
    """Return a signed request of a client; keywords are more header fields, `_` for `-`."""
    fields = (
        ("X-Amz-Target", DATA_TARGET_PREFIX + operation),
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=client"),
        *((name.replace("_", "-"), text) for name, text in headers.items()),
    )
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ClientRequest("POST", "/", fields, raw)


def key_of(pk: str) -> Json:
    """Return a primary key of the one table."""
    return {"pk": {"S": pk}}


def item_of(answer: Answer) -> Json | None:
    """Return the item that a read's answer shows."""
    assert answer.status == 200, answer.body
    shown: Json | None = json.loads(answer.body).get("Item")
    return shown


def values_of(answer: Answer, table: str = TABLE) -> dict[str, str]:
    """Return attribute `v` by `pk`, of the items of a table that a batch's answer shows."""
    assert answer.status == 200, answer.body
    shown = json.loads(answer.body)["Responses"].get(table, [])
    return {item["pk"]["S"]: item["v"]["S"] for item in shown}


def unprocessed_of(answer: Answer, table: str = TABLE) -> list[str]:
    """Return the keys of a table that a batch's answer left unprocessed."""
    left = json.loads(answer.body)["UnprocessedKeys"].get(table, {"Keys": []})
    return [key["pk"]["S"] for key in left["Keys"]]


def value_of(answer: Answer) -> str | None:
    """Return attribute `v` of the item that a read's answer shows, or None for no item."""
    item = item_of(answer)
    return None if item is None else item["v"]["S"]


class World:
    """One table `orders` with partition key `pk`, one store, as many proxies as a test wants.

    `policy` is every proxy's policy of every table but those in `policies`: replace it to change
    it. `near` bounds the copies of each proxy that is started after it was set, and
    `sampling` says what is hot there.
    """

    def __init__(self, fence: FencePolicy) -> None:
        self.clock = VirtualClock()
        self.fence = fence
        self.policy = TablePolicy(jitter=0.0)
        self.policies: dict[str, TablePolicy] = {}
        self.near = NearPolicy(bytes_max=0)
        self.sampling = SAMPLING
        self.keys = KeySpace("test", "us-east-1")
        self.upstream = ScriptedUpstream(self.clock)
        self.upstream.tables.add(TABLE, pk="S")
        self.store = MemoryStore(self.clock, fence)

    def link(self) -> MemoryStore:
        """Return the same store as another client of it, with faults of its own."""
        link = MemoryStore(self.clock, self.fence)
        link.scripts, link.incarnation = self.store.scripts, self.store.incarnation
        link._made = self.store._made
        return link

    def identity(self, pk: str, table: TableName = TABLE) -> ItemIdentity:
        """Name an item's record."""
        return self.keys.item(table, key_of(pk))

    def put_elsewhere(self, pk: str, v: str) -> None:
        """Write an item behind every proxy's back."""
        item = {**key_of(pk), "v": {"S": v}}
        self.upstream.tables.call("PutItem", {"TableName": TABLE, "Item": item})

    def newest(self, pk: str) -> str | None:
        """Return what DynamoDB holds as attribute `v`."""
        item = self.upstream.tables.newest(TABLE, key_of(pk))
        return None if item is None else item["v"]["S"]

    def plan(self, request: ClientRequest) -> Plan:
        """Plan a request under the world's policy."""
        return make_plan(request, self.keys, self.policy_of)

    def policy_of(self, table: str) -> TablePolicy:
        """Return a table's policy as it is now."""
        return self.policies.get(table, self.policy)

    def read_plan(self, pk: str, **members: Any) -> ReadPlan:
        """Plan a GetItem."""
        body = {"TableName": TABLE, "Key": key_of(pk), **members}
        plan = self.plan(client_request("GetItem", body))
        assert isinstance(plan, ReadPlan), plan
        return plan

    def proxy(
        self,
        *,
        flights_max: int = 10_000,
        debts_max: int = 100,
        configured: Mapping[TableName, KeySchema] | None = None,
        audit: AuditPolicy = UNAUDITED,
    ) -> Proxy:
        """Start one more proxy; `audit` bounds its audits and the confirmations of its shadow."""
        made = Proxy(self, flights_max=flights_max, debts_max=debts_max, configured=configured)
        made.assemble(audit)
        return made


class Proxy:
    """The flows of one process; `store` is its own link, `events` what they told."""

    def __init__(
        self,
        world: World,
        *,
        flights_max: int,
        debts_max: int,
        configured: Mapping[TableName, KeySchema] | None,
    ) -> None:
        self.world = world
        self.events: list[Event] = []
        emit, clock = self.events.append, world.clock
        self.store = world.link()
        cache = NearCache(
            bytes_max=world.near.bytes_max, table_share_max=world.near.table_share_max
        )
        self.near = NearReads(cache, NearRules(cache), policy=world.near, clock=clock)
        self.store.track(self.near)
        self.hot = HotReads(HotKeys(), clock=clock, sampling=world.sampling)
        self.tasks = TaskOwner(emit)
        self.coalescer: Coalescer[Landing] = Coalescer(self.tasks, flights_max=flights_max)
        self.debts = Debts(clock=clock, emit=emit, debts_max=debts_max)
        self._configured = configured or {}
        self.plans = PlanMemo(world.keys, world.policy_of, bytes_max=1 << 20)

    def assemble(self, audit: AuditPolicy) -> None:
        """Put the flows together."""
        world, emit, clock, gate = (
            self.world,
            self.events.append,
            self.world.clock,
            AuditGate(audit),
        )
        timeouts = Timeouts(READ_TIMEOUT_S, world.fence.write_timeout_s)
        heedful = heeding(gate, clock, emit)
        self.exchange = Exchange(world.upstream, clock=clock, emit=heedful, timeouts=timeouts)
        self.filler = Filler(self.store, self.exchange, clock=clock, emit=emit, fence=world.fence)
        self.schemas = SchemaBook(
            self.exchange,
            self.store,
            keys=world.keys,
            configured=self._configured,
            tasks=self.tasks,
            clock=clock,
        )
        self.watch = TableWatch(
            self.exchange,
            self.store,
            schemas=self.schemas,
            keys=world.keys,
            tasks=self.tasks,
            clock=clock,
            emit=emit,
            check_s=CHECK_S,
        )
        self.exchange.when_lost(self.watch.lost)
        self.auditor = Auditor(
            AuditorPorts(
                store=self.store,
                exchange=self.exchange,
                debts=self.debts,
                tasks=self.tasks,
                clock=clock,
                emit=emit,
                fence=world.fence,
            ),
            share=audit.share,
            gate=gate,
        )
        self.ahead = RefreshAhead(
            AheadPorts(self.store, self.filler, self.hot, self.tasks, clock, emit)
        )
        read_ports = ReadPorts(
            store=self.store,
            exchange=self.exchange,
            filler=self.filler,
            coalescer=self.coalescer,
            debts=self.debts,
            tasks=self.tasks,
            clock=clock,
            emit=emit,
            note=self.watch.note,
            witness=self.auditor,
            near=self.near,
            hot=self.hot,
            ahead=self.ahead,
        )
        paths = self._paths(read_ports)
        self.reads, self.batches, self.queries = paths.reads, paths.batches, paths.queries
        rehearsing = replace(read_ports, emit=without_savings(emit))
        self.stage = lambda witness: self._paths(replace(rehearsing, witness=witness))
        self.shadow = Shadow(
            ShadowPorts(self.exchange, self.auditor, self.tasks, emit, self.stage),
            rehearsals_max=REHEARSALS_MAX,
        )
        self.writes = WritePath(
            WritePorts(
                store=self.store,
                exchange=self.exchange,
                coalescer=self.coalescer,
                debts=self.debts,
                schemas=self.schemas,
                tasks=self.tasks,
                keys=world.keys,
                clock=clock,
                emit=emit,
                fence=world.fence,
                near=self.near,
            )
        )
        self.dispatcher = Dispatcher(
            DispatcherPorts(
                reads=self.reads,
                batches=self.batches,
                queries=self.queries,
                shadow=self.shadow,
                writes=self.writes,
                exchange=self.exchange,
                schemas=self.schemas,
                keys=world.keys,
                clock=clock,
                emit=emit,
                policy_of=world.policy_of,
                plans=self.plans,
                body_bytes_max=1024,
                near=self.near,
            )
        )

    def _paths(self, ports: ReadPorts) -> ReadPaths:
        reads = ReadPath(ports)
        queries = QueryPath(
            QueryPorts(
                store=self.store,
                exchange=self.exchange,
                reads=reads,
                debts=self.debts,
                schemas=self.schemas,
                keys=self.world.keys,
                fence=self.world.fence,
            )
        )
        return ReadPaths(reads, BatchPath(ports, reads), queries)

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    async def ask(self, operation: str, body: Json, **headers: str) -> Answer:
        """Perform one request by way of the dispatcher, in whatever mode its table is."""
        return await self.dispatcher.answer(client_request(operation, body, **headers))

    async def call(self, operation: str, body: Json) -> Answer:
        """Perform one request on the path that its plan names."""
        request = client_request(operation, body)
        plan = self.world.plan(request)
        if isinstance(plan, ReadPlan):
            return await self.reads.answer(plan, request)
        if isinstance(plan, BatchReadPlan):
            return await self.batches.answer(plan, request)
        if isinstance(plan, QueryPlan):
            return await self.queries.answer(plan, request)
        assert isinstance(plan, WritePlan | TablesWritePlan), plan
        return await self.writes.answer(plan, request)

    async def get(self, pk: str, **members: Any) -> Answer:
        """Read an item."""
        return await self.call("GetItem", {"TableName": TABLE, "Key": key_of(pk), **members})

    async def batch_get(self, *pks: str, **members: Any) -> Answer:
        """Read items of the one table by BatchGetItem; `members` beside its keys."""
        keys = [key_of(pk) for pk in pks]
        return await self.call("BatchGetItem", {"RequestItems": {TABLE: {"Keys": keys, **members}}})

    async def put(self, pk: str, v: str, **members: Any) -> Answer:
        """Write a whole item."""
        item = {**key_of(pk), "v": {"S": v}}
        return await self.call("PutItem", {"TableName": TABLE, "Item": item, **members})

    async def update(self, pk: str, v: str, **members: Any) -> Answer:
        """Set attribute `v` of an item."""
        body = {
            "TableName": TABLE,
            "Key": key_of(pk),
            "UpdateExpression": "SET v = :v",
            "ExpressionAttributeValues": {":v": {"S": v}},
            **members,
        }
        return await self.call("UpdateItem", body)

    async def delete(self, pk: str) -> Answer:
        """Delete an item."""
        return await self.call("DeleteItem", {"TableName": TABLE, "Key": key_of(pk)})

    async def batch_put(self, pk: str, v: str) -> Answer:
        """Write one item by BatchWriteItem."""
        item = {**key_of(pk), "v": {"S": v}}
        return await self.call(
            "BatchWriteItem", {"RequestItems": {TABLE: [{"PutRequest": {"Item": item}}]}}
        )
