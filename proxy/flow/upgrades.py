"""Sends an UpdateItem so that its answer tells the whole new item, and hides that from the caller.

Only for tables that are written through, and only where the caller asked for no part of the item:
his answer is the one DynamoDB would have given him. Policies of IAM may forbid ALL_NEW; then the
caller's own request is sent, under the same fence.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.core.operations import ItemWrite
from proxy.core.plan import PlannedWrite
from proxy.core.request import ClientRequest
from proxy.core.values import Mode, TableName
from proxy.core.write_outcomes import is_denied
from proxy.core.write_through import asking_for_new_item, without_attributes
from proxy.flow.exchange import Exchange
from proxy.flow.ports import Clock, UpstreamReply

_REFUSED_FOR_S: Final = 600.0  # permissions change rarely; a second request per write costs more
_TABLES_MAX: Final = 10_000
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Sent:
    """A write that upstream answered.

    Args:
        reply: as the caller is to see it.
        full_body: upstream's own body.
        upgraded: whether ALL_NEW was asked for in the caller's stead.
    """

    reply: UpstreamReply
    full_body: bytes
    upgraded: bool = False


class Upgrades:
    """Asks for new items where that is possible.

    Args:
        exchange: sends.
        clock: ages what was learned about tables.
    """

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._refused: dict[TableName, float] = {}

    async def send(
        self, request: ClientRequest, planned: PlannedWrite, *, resend_until_s: float
    ) -> Sent:
        """Send a single write whose result may become the entry, upgraded where that helps.

        Args:
            request: the caller's own.
            planned: what it writes.
            resend_until_s: monotonic time after which nothing may be sent under the fence.

        Raises:
            UpstreamFailed: no complete answer came.
        """
        write = planned.write
        upgraded = self._upgraded(request, planned)
        if upgraded is None:
            reply = await self._exchange.forward(request, write.table)
            return Sent(reply, reply.body)
        reply = await self._exchange.forward(upgraded, write.table)
        if is_denied(reply.status, reply.body):
            return await self._send_as_asked(request, write, resend_until_s)
        if reply.status != _OK:
            return Sent(reply, reply.body)
        bare = without_attributes(reply.body)
        if bare is None:
            self._refuse(write.table)
            return Sent(reply, reply.body)
        shown = UpstreamReply(reply.status, _checked(reply.headers, bare), bare)
        return Sent(shown, reply.body, upgraded=True)

    def _upgraded(self, request: ClientRequest, planned: PlannedWrite) -> ClientRequest | None:
        write = planned.write
        if write.operation != "UpdateItem" or planned.policy.mode is Mode.OFF:
            return None
        if self._clock.monotonic_s() < self._refused.get(write.table, 0.0):
            return None
        return asking_for_new_item(request)

    async def _send_as_asked(
        self, request: ClientRequest, write: ItemWrite, resend_until_s: float
    ) -> Sent:
        """Send the caller's own request: the upgraded one was denied, so nothing was applied."""
        if self._clock.monotonic_s() >= resend_until_s:
            # The marker could run out before this second request. The caller's SDK tries again.
            self._refuse(write.table)
            raise UpstreamFailed(
                UpstreamFailure.TIMEOUT, "upstream took long to deny ALL_NEW", maybe_applied=False
            )
        reply = await self._exchange.forward(request, write.table)
        if not is_denied(reply.status, reply.body):
            self._refuse(write.table)
        return Sent(reply, reply.body)

    def _refuse(self, table: TableName) -> None:
        if len(self._refused) >= _TABLES_MAX:
            self._refused.clear()
        self._refused[table] = self._clock.monotonic_s() + _REFUSED_FOR_S


def _checked(headers: tuple[tuple[str, str], ...], body: bytes) -> tuple[tuple[str, str], ...]:
    """Return the header fields with the checksum of another body, where there is one."""
    crc32 = str(zlib.crc32(body))
    return tuple((name, crc32 if name.lower() == "x-amz-crc32" else text) for name, text in headers)
