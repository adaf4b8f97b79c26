"""Looks an item up by one round trip whose reply is judged where it is read from the socket.

No future and no task wait for it: the next step is called, with what the reply shows. Whatever
needs more than one round trip, or another look at what the store said, is left to
`RedisStore.lookup`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.core.errors import StoreUnavailable
from proxy.core.fence import ItemIdentity, Proven, Sighting, sight
from proxy.core.packing import unpacked_sighting
from proxy.core.record import decode_record, decode_scope
from proxy.edge.redis_primary import PrimaryView
from proxy.edge.redis_submission import Submission
from proxy.edge.zstd import decompress
from proxy.flow.ports import LookupReader

_GET_BOTH: Final = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n"


class RedisLookup(Submission):
    """One lookup under way.

    Args:
        identity: whose record.
        reader: is told what comes of it.
        view: of the connection that it goes out on.
        source: who will tell of changes to what that connection reads; None for nobody.
        now_s: tells monotonic time.
    """

    __slots__ = ("_identity", "_now_s", "_reader", "_source", "_view")

    def __init__(
        self,
        identity: ItemIdentity,
        reader: LookupReader,
        view: PrimaryView,
        *,
        source: Proven | None,
        now_s: Callable[[], float],
    ) -> None:
        item, table = identity.cache_key, identity.table_key
        super().__init__(_GET_BOTH % (len(item), item, len(table), table), 2)
        self._identity = identity
        self._reader = reader
        self._view = view
        self._source = source
        self._now_s = now_s

    def settle(self) -> None:
        """Let the reader see what there is."""
        try:
            sighting = self._sighting()
            if sighting is None:
                self._reader.unsure()
            else:
                self._reader.saw(sighting)
        except Exception as error:  # noqa: BLE001 - others share the connection
            self._reader.broke(error)

    def fail(self, problem: StoreUnavailable) -> None:
        """Let the reader go on without the store."""
        try:
            self._reader.failed(StoreUnavailable(problem.failure, str(problem)))
        except Exception as error:  # noqa: BLE001 - as above
            self._reader.broke(error)

    def _sighting(self) -> Sighting | None:
        item, table = self.replies
        if type(table) is not bytes or (item is not None and type(item) is not bytes):
            return None  # a hash, an error, a redirection, or a table that nobody knows yet
        scope, view, now_s = decode_scope(table), self._view, self._now_s()
        now_ms = view.store_now_ms(now_s)
        if scope is None or not scope.stands(view.incarnation, now_ms):
            return None
        seen = sight(
            None if item is None else decode_record(item),
            scope,
            incarnation=view.incarnation,
            digest=self._identity.digest,
            store_now_ms=now_ms,
            sources=() if self._source is None else (self._source,),
        )
        return unpacked_sighting(seen, None, decompress)
