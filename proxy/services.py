"""Builds the object graph of one process from its settings, and tears it down in reverse."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from proxy.core.breaker import Breaker
from proxy.core.cache_key import KeySpace
from proxy.core.lifecycle import Probes
from proxy.core.record import RECORD_FORMAT
from proxy.core.request import ClientRequest
from proxy.edge.credentials import CredentialsKeeper, botocore_chain, profile_files
from proxy.edge.door_check import why_no_door
from proxy.edge.endpoints import Endpoints, resolve_endpoints
from proxy.edge.garbage import Garbage
from proxy.edge.hot_metrics import HotMetrics
from proxy.edge.hot_pages import HotPages
from proxy.edge.http_server import DataServer, HttpLimits, HttpOptions
from proxy.edge.log import EventLog, logger
from proxy.edge.metrics import Metrics, MetricsIdentity
from proxy.edge.near_metrics import NearMetrics
from proxy.edge.ops_modes import ModeControl, ModePages
from proxy.edge.ops_server import ProxyStatus, StoreStatus, build_ops_app
from proxy.edge.sigv4 import Signer
from proxy.edge.stream_metrics import StreamMetrics
from proxy.edge.upstream import HttpUpstream, UpstreamOptions
from proxy.edge.upstream_fields import is_loop
from proxy.flow.at_once import AnswerNow, nothing_at_hand
from proxy.flow.debts import Debts
from proxy.flow.events import Emit, Event
from proxy.flow.guarded_store import GuardedStore
from proxy.flow.mode_switch import ModeSwitch
from proxy.flow.ports import Clock, Store
from proxy.flow.stream_policies import StreamPolicies
from proxy.flow.streams import Streams
from proxy.flow.tasks import TaskOwner
from proxy.flow_graph import FlowGraph, Flows
from proxy.settings import Settings
from proxy.store_graph import BuiltStore, build_store
from proxy.stream_graph import StreamGraph
from proxy.version import VERSION

_FIRST_CREDENTIALS_S = 5.0
_STOP_TASKS_S = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """What `proxy.app` needs of the graph."""

    data_server: DataServer
    ops_app: web.Application
    probes: Probes
    tasks: TaskOwner
    debts: Debts
    garbage: Garbage


@dataclass(frozen=True, slots=True)
class _Frame:
    """What every part is built with."""

    settings: Settings
    clock: Clock
    emit: Emit
    tasks: TaskOwner
    stack: AsyncExitStack

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run work in the background until the stack ends."""
        kept = self.tasks.keep(work, name, self.clock.sleep)
        task = asyncio.get_running_loop().create_task(kept, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(end)


async def build_services(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Services:
    """Build everything; `stack` ends it in reverse order.

    Raises:
        SettingsInvalid: no region to sign for.
    """
    endpoints = _endpoints(settings)
    metrics = _metrics(settings)
    events = EventLog(logger("dynaside"), clock.monotonic_s)

    def emit(event: Event) -> None:
        metrics.on_event(event)
        events.on_event(event)

    tasks = TaskOwner(emit)
    frame = _Frame(settings, clock, emit, tasks, stack)
    instance_id = clock.token().hex()
    upstream = await _upstream(frame, endpoints, instance_id)
    keys = KeySpace(settings.store.namespace, endpoints.region)
    built, breaker, store = _store(frame, keys)
    debts = Debts(clock=clock, emit=emit, debts_max=settings.limits.debts_max)
    frame.keep(debts.pay, "debts")
    frame.keep(partial(metrics.watch_loop_lag, clock), "loop lag")
    modes = ModeSwitch(settings.policy_of, emit=emit)
    graph = StreamGraph(settings, keys=keys, clock=clock, emit=emit)
    streams = graph.streams(upstream, store, built.streams, modes.policy_of)
    lags = _read_streams(frame, streams)
    shared = FlowGraph(settings, clock, emit, tasks, keys, store, debts, modes, lags=lags)
    flows = shared.flows(upstream)
    _let_tell(built, flows, settings)  # nothing was awaited yet, so the store has no connection
    frame.keep(flows.watch.watch, "table watch")
    stack.push_async_callback(tasks.settle, _STOP_TASKS_S, clock.sleep)
    server = await _data_server(settings, flows, partial(is_loop, instance_id=instance_id), emit)
    _show(metrics, flows, store, streams)
    metrics.observe_in_flight(lambda: server.in_flight)
    probes, started_s = Probes(), clock.monotonic_s()

    def status() -> ProxyStatus:
        return ProxyStatus(
            version=VERSION,
            uptime_s=clock.monotonic_s() - started_s,
            store=_store_status(store, breaker, built),
            debts=len(debts),
            upstream_endpoint=endpoints.dynamodb_url,
            table_default=settings.default_policy,
            tables={**settings.policies, **modes.switched},
            switched=tuple(modes.switched),
            streams=streams.status() if streams else {},
        )

    ops_app = build_ops_app(probes, metrics.exposition, status)
    _mode_pages(modes).add_to(ops_app)
    HotPages(flows.hot.report).add_to(ops_app)
    return Services(server, ops_app, probes, tasks, debts, _garbage(frame, flows))


def _garbage(frame: _Frame, flows: Flows) -> Garbage:
    garbage = Garbage(lambda: flows.near.cache.kept_bytes)
    frame.keep(partial(garbage.watch, frame.clock.sleep), "garbage")
    return garbage


def _endpoints(settings: Settings) -> Endpoints:
    upstream = settings.upstream
    return resolve_endpoints(os.environ, endpoint=upstream.endpoint, region=upstream.region)


def _read_streams(frame: _Frame, streams: Streams | None) -> StreamPolicies | None:
    """Read streams from now on, if there are any; return the policies of tables that may lag."""
    if streams is None:
        return None
    frame.keep(streams.watch, "streams")
    frame.stack.push_async_callback(streams.close)
    return streams.policies


def _show(metrics: Metrics, flows: Flows, store: GuardedStore, streams: Streams | None) -> None:
    """Show at each scrape what is counted elsewhere."""
    if streams is not None:
        StreamMetrics(metrics.registry, streams.status)
        for table in streams.status():
            metrics.streams.admit(metrics.label_of(table))
    NearMetrics(metrics.registry, flows.near)
    HotMetrics(metrics.registry, flows.hot, metrics.label_of)
    metrics.ask(flows.tally.tell, store.tell)


async def _data_server(
    settings: Settings, flows: Flows, is_own: Callable[[ClientRequest], bool], emit: Emit
) -> DataServer:
    return DataServer(
        flows.dispatcher.answer,
        is_loop=is_own,
        options=_http_options(settings),
        emit=emit,
        answer_now=await _answer_now(settings, flows),
        look_up=flows.store_hits.look_up,
    )


async def _answer_now(settings: Settings, flows: Flows) -> AnswerNow | None:
    """Return what the fast door asks, or None where there is to be none."""
    if not settings.http.fast_door:
        return None
    if (why := await why_no_door()) is not None:
        logger("dynaside").warning("fast door stays shut", why=why)
        return None
    return nothing_at_hand if flows.at_once is None else flows.at_once.answer


def _mode_pages(modes: ModeSwitch) -> ModePages:
    return ModePages(ModeControl(modes.policy_of, lambda: modes.switched, modes.switch))


async def _upstream(frame: _Frame, endpoints: Endpoints, instance_id: str) -> HttpUpstream:
    settings, clock, stack = frame.settings, frame.clock, frame.stack
    keeper = CredentialsKeeper(
        botocore_chain(region=endpoints.region),
        clock=clock,
        emit=frame.emit,
        watched=profile_files(),
    )
    keeper.start()
    stack.push_async_callback(keeper.close)
    await keeper.wait_first(_FIRST_CREDENTIALS_S)
    options = UpstreamOptions(
        dynamodb_url=endpoints.dynamodb_url,
        streams_url=endpoints.streams_url,
        instance_id=instance_id,
        connections_max=settings.upstream.connections_max,
        waiting_max=settings.upstream.waiting_max,
        idle_s=settings.upstream.idle_s,
        connect_timeout_s=settings.upstream.connect_timeout_s,
        ca_bundle=endpoints.ca_bundle,
    )
    upstream = HttpUpstream(
        options,
        signer=Signer(endpoints.region),
        credentials_of=keeper.current,
        clock=clock,
    )
    return await stack.enter_async_context(upstream)


def _store(frame: _Frame, keys: KeySpace) -> tuple[BuiltStore, Breaker, GuardedStore]:
    built = build_store(frame.settings, keys, frame.clock, frame.emit)
    given = frame.settings.breaker
    breaker = Breaker(failures_to_open=given.failures_to_open, open_s=given.open_s)
    frame.keep(built.keep_connected, "store")
    guarded = GuardedStore(built.store, breaker=breaker, clock=frame.clock, emit=frame.emit)
    return built, breaker, guarded


def _let_tell(built: BuiltStore, flows: Flows, settings: Settings) -> None:
    """Let the store's connections, before they are made, tell the near cache of changes."""
    if (ping_s := settings.near_policy().ping_s) is not None:
        built.track(flows.near, ping_s)


def _store_status(store: Store, breaker: Breaker, built: BuiltStore) -> StoreStatus:
    flaws = tuple(flaw.value for flaw in built.flaws())
    return StoreStatus(store.serving, store.why_not_serving, breaker.state.value, flaws)


def _metrics(settings: Settings) -> Metrics:
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    identity = MetricsIdentity(
        version=VERSION,
        python=platform.python_version(),
        record_format=str(RECORD_FORMAT),
        config_digest=digest,
        level_default=settings.default_policy.level.value,
        write_mode_default=settings.default_policy.write_mode.value,
    )
    return Metrics(identity, tables=settings.policies, tables_max=settings.limits.metric_tables_max)


def _http_options(settings: Settings) -> HttpOptions:
    http = settings.http
    limits = HttpLimits(
        body_bytes_max=http.body_bytes_max,
        bodies_bytes_max=http.bodies_bytes_max,
        header_bytes_max=http.header_bytes_max,
        keepalive_s=http.keepalive_s,
        connections_max=http.connections_max,
    )
    return HttpOptions(limits, http.cache_status, http.server_name, settings.cross_origin_allowed)
