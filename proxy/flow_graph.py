"""Puts the flows of one process together; `proxy.services` gives them the real world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.core.audit_gate import AuditGate
from proxy.core.cache_key import KeySpace
from proxy.core.hot_keys import HotKeys
from proxy.core.key_schema import KeySchema
from proxy.core.near_cache import NearCache
from proxy.core.near_rules import NearRules
from proxy.core.plan_memo import PlanMemo
from proxy.core.policy import TablePolicy
from proxy.flow.ahead import AheadPorts, RefreshAhead
from proxy.flow.at_once import AtOnce
from proxy.flow.auditor import Auditor, AuditorPorts, Witness, heeding
from proxy.flow.batch_path import BatchPath
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debts
from proxy.flow.dispatcher import Dispatcher, DispatcherPorts
from proxy.flow.events import Emit
from proxy.flow.exchange import Exchange, Timeouts
from proxy.flow.filler import Filler, Landing
from proxy.flow.hit_tally import HitTally
from proxy.flow.hot_reads import SAMPLING, HotReads, Sampling
from proxy.flow.mode_switch import ModeSwitch
from proxy.flow.near_reads import NearReads
from proxy.flow.ports import Clock, Store, Upstream
from proxy.flow.query_path import QueryPath, QueryPorts
from proxy.flow.read_path import ReadPath, ReadPorts
from proxy.flow.schemas import SchemaBook
from proxy.flow.shadow import ReadPaths, Shadow, ShadowPorts, without_savings
from proxy.flow.standing import Standing
from proxy.flow.store_hits import StoreHits
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.table_watch import TableWatch
from proxy.flow.tasks import TaskOwner
from proxy.flow.write_path import WritePath, WritePorts
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Flows:
    """What a process runs: answers to requests, and the watch over its tables beside them.

    `near` takes what the store's connections push; `hot` knows what is read most; `at_once`
    answers what needs no waiting, where the process keeps copies of entries; `store_hits` what one
    lookup answers. `tally` counts what those two answered.
    """

    dispatcher: Dispatcher
    watch: TableWatch
    near: NearReads
    hot: HotReads
    at_once: AtOnce | None
    store_hits: StoreHits
    tally: HitTally


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """What the flows of one process share; the simulation builds the same graph on other ports."""

    settings: Settings
    clock: Clock
    emit: Emit
    tasks: TaskOwner
    keys: KeySpace
    store: Store
    debts: Debts
    modes: ModeSwitch
    sampling: Sampling = SAMPLING
    lags: StreamPolicies | None = None

    @property
    def _policy_of(self) -> Callable[[str], TablePolicy]:
        return self.modes.policy_of if self.lags is None else self.lags.policy_of

    def flows(self, upstream: Upstream) -> Flows:
        """Put the flows together."""
        settings = self.settings
        timeouts = Timeouts(settings.upstream.read_timeout_s, settings.upstream.write_timeout_s)
        gate = AuditGate(settings.audit.policy())
        heedful = heeding(gate, self.clock, self.emit)
        exchange = Exchange(upstream, clock=self.clock, emit=heedful, timeouts=timeouts)
        schemas = self._schemas(exchange)
        watch = TableWatch(
            exchange,
            self.store,
            schemas=schemas,
            keys=self.keys,
            tasks=self.tasks,
            clock=self.clock,
            emit=self.emit,
            check_s=settings.upstream.table_check_s,
        )
        exchange.when_lost(watch.lost)
        auditor = self._auditor(exchange, gate)
        plans = PlanMemo(self.keys, self._policy_of, bytes_max=settings.limits.plans_bytes_max)
        ports = self._read_ports(exchange, watch, auditor)
        paths = self._read_paths(ports, schemas)
        at_once, tally = None, HitTally(self.emit)
        if settings.near_policy().bytes_max:
            standing = Standing(ports.near, ports.hot, auditor, self.debts, watch.note)
            self.modes.switching = ports.near.cache.unstand
            if self.lags is not None:
                self.lags.switching = ports.near.cache.unstand
            at_once = AtOnce(plans, paths.reads.near, standing, clock=self.clock, tally=tally)
        dispatcher = self._dispatcher(plans, ports, paths, schemas, auditor)
        store_hits = StoreHits(plans, paths.reads, dispatcher.answer, clock=self.clock, tally=tally)
        return Flows(dispatcher, watch, ports.near, ports.hot, at_once, store_hits, tally)

    def _read_ports(self, exchange: Exchange, watch: TableWatch, auditor: Auditor) -> ReadPorts:
        settings, fence = self.settings, self.settings.fence_policy()
        coalescer: Coalescer[Landing] = Coalescer(
            self.tasks, flights_max=settings.limits.flights_max
        )
        filler = Filler(self.store, exchange, clock=self.clock, emit=self.emit, fence=fence)
        hot = HotReads(HotKeys(), clock=self.clock, sampling=self.sampling)
        ahead = AheadPorts(self.store, filler, hot, self.tasks, self.clock, self.emit)
        return ReadPorts(
            store=self.store,
            exchange=exchange,
            filler=filler,
            coalescer=coalescer,
            debts=self.debts,
            tasks=self.tasks,
            clock=self.clock,
            emit=self.emit,
            note=watch.note,
            witness=auditor,
            near=self._near(),
            hot=hot,
            ahead=RefreshAhead(ahead),
        )

    def _near(self) -> NearReads:
        policy = self.settings.near_policy()
        cache = NearCache(bytes_max=policy.bytes_max, table_share_max=policy.table_share_max)
        return NearReads(cache, NearRules(cache), policy=policy, clock=self.clock)

    def _dispatcher(
        self,
        plans: PlanMemo,
        read_ports: ReadPorts,
        paths: ReadPaths,
        schemas: SchemaBook,
        auditor: Auditor,
    ) -> Dispatcher:
        settings, exchange = self.settings, read_ports.exchange
        rehearsing = replace(read_ports, emit=without_savings(self.emit))

        def stage(witness: Witness) -> ReadPaths:
            return self._read_paths(replace(rehearsing, witness=witness), schemas)

        shadow = Shadow(ShadowPorts(exchange, auditor, self.tasks, self.emit, stage))
        return Dispatcher(
            DispatcherPorts(
                reads=paths.reads,
                batches=paths.batches,
                queries=paths.queries,
                shadow=shadow,
                writes=self._writes(read_ports, schemas),
                exchange=exchange,
                schemas=schemas,
                keys=self.keys,
                clock=self.clock,
                emit=self.emit,
                policy_of=self._policy_of,
                plans=plans,
                body_bytes_max=settings.http.body_bytes_max,
                near=read_ports.near,
            )
        )

    def _writes(self, ports: ReadPorts, schemas: SchemaBook) -> WritePath:
        return WritePath(
            WritePorts(
                store=self.store,
                exchange=ports.exchange,
                coalescer=ports.coalescer,
                debts=self.debts,
                schemas=schemas,
                tasks=self.tasks,
                keys=self.keys,
                clock=self.clock,
                emit=self.emit,
                fence=self.settings.fence_policy(),
                near=ports.near,
            )
        )

    def _auditor(self, exchange: Exchange, gate: AuditGate) -> Auditor:
        ports = AuditorPorts(
            store=self.store,
            exchange=exchange,
            debts=self.debts,
            tasks=self.tasks,
            clock=self.clock,
            emit=self.emit,
            fence=self.settings.fence_policy(),
        )
        return Auditor(ports, share=self.settings.audit.share, gate=gate)

    def _read_paths(self, ports: ReadPorts, schemas: SchemaBook) -> ReadPaths:
        reads = ReadPath(ports)
        queries = QueryPath(
            QueryPorts(
                store=self.store,
                exchange=ports.exchange,
                reads=reads,
                debts=self.debts,
                schemas=schemas,
                keys=self.keys,
                fence=self.settings.fence_policy(),
            )
        )
        return ReadPaths(reads, BatchPath(ports, reads), queries)

    def _schemas(self, exchange: Exchange) -> SchemaBook:
        configured = {
            table: KeySchema(given.partition.name, given.sort.name if given.sort else None)
            for table, given in self.settings.key_schemas.items()
        }
        return SchemaBook(
            exchange,
            self.store,
            keys=self.keys,
            configured=configured,
            tasks=self.tasks,
            clock=self.clock,
        )
