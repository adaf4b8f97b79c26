"""Puts the flows of one process together; `proxy.services` gives them the real world."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.cache_key import KeySpace
from proxy.core.key_schema import KeySchema
from proxy.flow.batch_path import BatchPath
from proxy.flow.coalescer import Coalescer
from proxy.flow.debts import Debts
from proxy.flow.dispatcher import Dispatcher, DispatcherPorts
from proxy.flow.events import Emit
from proxy.flow.exchange import Exchange, Timeouts
from proxy.flow.filler import Filler, Landing
from proxy.flow.ports import Clock, Store, Upstream
from proxy.flow.query_path import QueryPath, QueryPorts
from proxy.flow.read_path import ReadPath, ReadPorts
from proxy.flow.schemas import SchemaBook
from proxy.flow.table_watch import TableWatch
from proxy.flow.tasks import TaskOwner
from proxy.flow.write_path import WritePath, WritePorts
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Flows:
    """What a process runs: answers to requests, and the watch over its tables beside them."""

    dispatcher: Dispatcher
    watch: TableWatch


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

    def flows(self, upstream: Upstream) -> Flows:
        """Put the flows together."""
        settings = self.settings
        timeouts = Timeouts(settings.upstream.read_timeout_s, settings.upstream.write_timeout_s)
        exchange = Exchange(upstream, clock=self.clock, emit=self.emit, timeouts=timeouts)
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
        return Flows(self._dispatcher(exchange, schemas, watch), watch)

    def _dispatcher(self, exchange: Exchange, schemas: SchemaBook, watch: TableWatch) -> Dispatcher:
        settings, fence = self.settings, self.settings.fence_policy()
        coalescer: Coalescer[Landing] = Coalescer(
            self.tasks, flights_max=settings.limits.flights_max
        )
        filler = Filler(self.store, exchange, clock=self.clock, emit=self.emit, fence=fence)
        read_ports = ReadPorts(
            store=self.store,
            exchange=exchange,
            filler=filler,
            coalescer=coalescer,
            debts=self.debts,
            tasks=self.tasks,
            clock=self.clock,
            emit=self.emit,
            note=watch.note,
        )
        reads = ReadPath(read_ports)
        writes = WritePath(
            WritePorts(
                store=self.store,
                exchange=exchange,
                coalescer=coalescer,
                debts=self.debts,
                schemas=schemas,
                tasks=self.tasks,
                keys=self.keys,
                clock=self.clock,
                emit=self.emit,
                fence=fence,
            )
        )
        return Dispatcher(
            DispatcherPorts(
                reads=reads,
                batches=BatchPath(read_ports, reads),
                queries=self._queries(exchange, reads, schemas),
                writes=writes,
                exchange=exchange,
                schemas=schemas,
                keys=self.keys,
                clock=self.clock,
                emit=self.emit,
                policy_of=settings.policy_of,
                body_bytes_max=settings.http.body_bytes_max,
            )
        )

    def _queries(self, exchange: Exchange, reads: ReadPath, schemas: SchemaBook) -> QueryPath:
        return QueryPath(
            QueryPorts(
                store=self.store,
                exchange=exchange,
                reads=reads,
                debts=self.debts,
                schemas=schemas,
                keys=self.keys,
                fence=self.settings.fence_policy(),
            )
        )

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
