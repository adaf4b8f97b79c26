"""Sequences a Query or Scan: kind of index, lookup of the page, then as `proxy.flow.read_path`.

Whatever goes wrong, the client's own request is sent and DynamoDB's own answer passed on.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.cache_key import KeySpace
from proxy.core.errors import NotCached, StoreUnavailable
from proxy.core.page_plan import PagePlan, QueryPlan, place_page
from proxy.core.policy import FencePolicy
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import BypassReason, Outcome
from proxy.flow.debts import Debts
from proxy.flow.exchange import Exchange, pass_on
from proxy.flow.ports import Store
from proxy.flow.read_path import NotUnderstoodError, ReadPath, why_bypass
from proxy.flow.schemas import SchemaBook


@dataclass(frozen=True, slots=True)
class QueryPorts:
    """What the query path works with."""

    store: Store
    exchange: Exchange
    reads: ReadPath
    debts: Debts
    schemas: SchemaBook
    keys: KeySpace
    fence: FencePolicy


class QueryPath:
    """Answers Query and Scan from cached pages where that is right, from upstream otherwise."""

    def __init__(self, ports: QueryPorts) -> None:
        self._ports = ports

    async def answer(self, plan: QueryPlan, request: ClientRequest) -> Answer:
        """Answer one Query or Scan.

        Raises:
            UpstreamFailed: upstream gave no answer and no page may stand in for it.
            NotCached: only the store may answer, and cannot.
        """
        page = place_page(plan, self._ports.keys, local=await self._is_local(plan))
        if page is None:
            return await self._forward(request, plan, BypassReason.INDEX)
        try:
            return await self._answer(page, request)
        except NotUnderstoodError:
            # A refusal of what was asked, or a reply in a shape of tomorrow: it must be the answer
            # to the client's own words.
            return await self._forward(request, page, BypassReason.UNDECODABLE)

    async def _is_local(self, plan: QueryPlan) -> bool:
        """Tell whether the index asked for, if any, is known to be a local one."""
        table, index = plan.asked.table, plan.asked.index
        if index is None:
            return False
        schema = self._ports.schemas.recall(table)
        if schema is None:
            schema = await self._ports.schemas.schema_of(table)
        return schema is not None and index in schema.local_indexes

    async def _answer(self, plan: PagePlan, request: ClientRequest) -> Answer:
        ports = self._ports
        owed = ports.debts.owes_page(plan.page)
        if (reason := why_bypass(ports.store, plan.policy, owed=owed)) is not None:
            return await self._past_store(plan, request, reason)
        try:
            seen = await ports.store.lookup_page(plan.page)
        except StoreUnavailable:
            return await self._past_store(plan, request, BypassReason.STORE_DOWN)
        judged = plan.after(seen, ports.fence)
        if isinstance(judged, BypassReason):
            return await self._past_store(plan, request, judged)
        return await ports.reads.from_sighting(judged, seen.sighting)

    async def _past_store(
        self, plan: PagePlan, request: ClientRequest, reason: BypassReason
    ) -> Answer:
        """Answer from upstream, at this table's level: consistently unless it is `eventual`."""
        if plan.lags:
            return await self._forward(request, plan, reason)
        return await self._ports.reads.past_store(plan, reason)

    async def _forward(
        self, request: ClientRequest, plan: QueryPlan | PagePlan, reason: BypassReason
    ) -> Answer:
        if plan.control.only_if_cached:
            raise NotCached(reason, plan.table)
        reply = await self._ports.exchange.forward(request, plan.table)
        return pass_on(reply, Outcome.BYPASS, plan.table).explained(reason, plan.table)
