"""What the flows need to know of a read to fetch, fill and answer it, whatever it reads."""

from __future__ import annotations

from typing import Any, Protocol

from proxy.core.cache_control import CacheControl
from proxy.core.fence import ItemIdentity
from proxy.core.policy import TablePolicy
from proxy.core.record import Entry
from proxy.core.values import TableName, Verdict


class Found(Protocol):
    """A 200 reply taken apart."""

    @property
    def body(self) -> bytes:
        """What becomes the entry: the reply without ConsumedCapacity."""
        ...

    @property
    def consumed(self) -> dict[str, Any] | None:
        """Upstream's ConsumedCapacity, if it gave one."""
        ...

    @property
    def size_bytes(self) -> int:
        """What DynamoDB read for it, by its own rules."""
        ...

    @property
    def negative(self) -> bool:
        """Whether it says that there is nothing."""
        ...


class FetchPlan(Protocol):
    """One read: where its entry lives, how it is fetched, how it is answered."""

    @property
    def operation(self) -> str:
        """The operation's name."""
        ...

    @property
    def table(self) -> TableName:
        """The table's plain name."""
        ...

    @property
    def identity(self) -> ItemIdentity:
        """The entry's record."""
        ...

    @property
    def policy(self) -> TablePolicy:
        """Limits of the entry."""
        ...

    @property
    def is_page(self) -> bool:
        """Whether the generation alone proves the entry, and a fetch is in words of our own.

        Then any flight of one's generation may be joined, and the client's own words decide what
        error it gets.
        """
        ...

    @property
    def lags(self) -> bool:
        """Whether it cannot be read consistently."""
        ...

    @property
    def control(self) -> CacheControl:
        """What the request asks of the cache."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """The top-level attributes that answer it; None for everything."""
        ...

    def judge(self, entry: Entry | None, store_now_ms: int) -> Verdict:
        """Decide whether an entry may answer this very read; see `proxy.core.freshness.assess`."""
        ...

    def fetch_body(self, *, consistent: bool) -> bytes:
        """Return the body of the request that fetches what becomes the entry."""
        ...

    def read_reply(self, body: bytes, *, consistent: bool) -> Found | None:
        """Take a 200 reply apart; None when it is not understood."""
        ...

    def answer_body(self, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
        """Answer from an entry's body; `consumed` as upstream told it, None for nothing."""
        ...
