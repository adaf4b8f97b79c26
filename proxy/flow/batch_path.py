"""Sequences a BatchGetItem: look every key up at once, fetch together what is not there."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from proxy.core.batch_answer import HITS, batch_answer_body, batch_outcome
from proxy.core.item_size import read_units
from proxy.core.read_plan import BatchReadPlan
from proxy.core.request import Answer, ClientRequest
from proxy.core.values import BypassReason, Outcome, TableName
from proxy.flow.events import BatchItemsAnswered, CapacitySaved
from proxy.flow.exchange import Fetched, checksum, pass_fetched, pass_on
from proxy.flow.gathering import Gathering
from proxy.flow.key_reads import KeyReader, Look, Read, TroubleError
from proxy.flow.read_path import ReadPath, ReadPorts

_OK: Final = 200


class BatchPath:
    """Answers BatchGetItem from the cache where that is right, from upstream otherwise.

    Args:
        ports: the read path's own.
        reads: refreshes what is in grace, and knows when the store may be asked.
    """

    def __init__(self, ports: ReadPorts, reads: ReadPath) -> None:
        self._ports = ports
        self._keys = KeyReader(ports, reads)

    async def answer(self, plan: BatchReadPlan, request: ClientRequest) -> Answer:
        """Answer one BatchGetItem.

        Raises:
            UpstreamFailed: upstream gave no answer, and not for every key that it was asked for
                may an entry stand in.
            NotCached: only the store may answer, and cannot answer for every key.
        """
        looks = await asyncio.gather(*(self._keys.look(part) for part in plan.parts))
        if plan.control.only_if_cached:
            for look in looks:
                look.must_serve()
        gathering = Gathering(
            self._ports.exchange, tasks=self._ports.tasks, capacity=plan.batch.capacity
        )
        try:
            reads = await self._read_all(looks, gathering)
        except TroubleError as trouble:
            return await self._without_items(plan, request, trouble.fetched)
        return self._built(plan, reads, gathering)

    async def _read_all(self, looks: Sequence[Look], gathering: Gathering) -> list[Read]:
        hits = [self._keys.from_entry(look) for look in looks]
        missing = [look for look, hit in zip(looks, hits, strict=True) if hit is None]
        if not missing:
            return [hit for hit in hits if hit is not None]
        fetched = iter(await self._fetch_all(missing, gathering))
        return [
            next(fetched) if hit is None else self._keys.still(look, hit)
            for look, hit in zip(looks, hits, strict=True)
        ]

    async def _fetch_all(self, missing: Sequence[Look], gathering: Gathering) -> list[Read]:
        opening = gathering.seat()
        fetching = asyncio.gather(*(self._keys.fetch(look, gathering) for look in missing))
        # Runs after the first step of each of these tasks, in which they take their seats: until
        # then nothing may be sent.
        asyncio.get_running_loop().call_soon(opening.leave)
        reads: list[Read] = []
        for read in await fetching:
            if not isinstance(read, Read):
                raise read
            reads.append(read)
        return reads

    async def _without_items(
        self, plan: BatchReadPlan, request: ClientRequest, fetched: Fetched
    ) -> Answer:
        if fetched.failed:
            return pass_fetched(fetched.reply, Outcome.MISS, plan.batch.table)
        # A refusal, which may quote our own request, or a reply in a shape of tomorrow: let
        # upstream answer the very question itself.
        reply = await self._ports.exchange.forward(request, plan.batch.table)
        for part in plan.parts:
            self._ports.near.shown(part.identity)
        answer = pass_on(reply, Outcome.BYPASS, plan.batch.table)
        return answer.explained(BypassReason.UNDECODABLE, plan.batch.table)

    def _built(self, plan: BatchReadPlan, reads: Sequence[Read], gathering: Gathering) -> Answer:
        self._tell(reads)
        body = batch_answer_body(plan.batch, [read.item for read in reads], gathering.consumed)
        outcome = batch_outcome([read.outcome for read in reads])
        hits = [read for read in reads if read.outcome in HITS]
        fetched = [read for read in reads if read.outcome not in HITS]
        answer = Answer(
            _OK,
            (),
            body,
            outcome,
            table=plan.batch.table,
            crc32=checksum(body),
            ttl_s=min((read.ttl_s for read in hits), default=None),
            stored=bool(fetched) and all(read.stored for read in fetched),
        )
        if outcome is Outcome.PARTIAL:
            return answer._replace(detail=f"hits-{len(hits)}-of-{len(reads)}")
        if any(read.stands_in for read in hits):
            return answer._replace(detail="stale-if-error")
        if outcome is Outcome.BYPASS:
            assert reads[0].reason is not None, "a bypass without a reason"
            return answer.explained(reads[0].reason, plan.batch.table)
        return answer

    def _tell(self, reads: Sequence[Read]) -> None:
        answered: Counter[tuple[TableName, Outcome]] = Counter()
        saved: defaultdict[TableName, float] = defaultdict(float)
        for read in reads:
            table = read.plan.get.table
            answered[table, read.outcome] += 1
            if read.outcome in HITS:
                saved[table] += read_units(read.item.item_bytes, consistent=False)
        for (table, outcome), items in answered.items():
            self._ports.emit(BatchItemsAnswered(table, outcome, items))
        for table, units in saved.items():
            self._ports.emit(CapacitySaved(table, units))
