"""One HTTP request and one HTTP answer as plain values, between the server and the flows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from proxy.core.values import BypassReason, Outcome, TableName

TARGET_HEADER: Final = "x-amz-target"
DATA_TARGET_PREFIX: Final = "DynamoDB_20120810."
STREAMS_TARGET_PREFIX: Final = "DynamoDBStreams_20120810."
LEGACY_TARGET_PREFIX: Final = "DynamoDB_20111205."
"""The API before 2012: other shapes of keys, the same tables."""

Headers = tuple[tuple[str, str], ...]
"""Header fields in the order they came, names as they were spelled."""


def find_header(headers: Headers, name: str) -> str | None:
    """Return the first value of a field; `name` in lower case."""
    for spelled, content in headers:
        if spelled.lower() == name:
            return content
    return None


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A complete request: `target` is path and query as sent, `body` the bytes as sent."""

    method: str
    target: str
    headers: Headers
    body: bytes
    # A request is asked for its fields a dozen times on its way.
    _first_values: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = {name.lower(): content for name, content in reversed(self.headers)}
        object.__setattr__(self, "_first_values", found)

    def header(self, name: str) -> str | None:
        """Return the first value of a header field; `name` in lower case."""
        return self._first_values.get(name)

    def repeats(self, name: str) -> bool:
        """Tell whether a header field came more than once; `name` in lower case."""
        if len(self._first_values) == len(self.headers):
            return False
        return sum(spelled.lower() == name for spelled, _ in self.headers) > 1

    @property
    def operation(self) -> str:
        """The operation's name, `GetItem`; empty for what is not a DynamoDB call."""
        amz_target = self.header(TARGET_HEADER) or ""
        for prefix in (DATA_TARGET_PREFIX, STREAMS_TARGET_PREFIX, LEGACY_TARGET_PREFIX):
            if amz_target.startswith(prefix):
                return amz_target[len(prefix) :]
        return ""

    @property
    def legacy(self) -> bool:
        """Whether the request is in the API before 2012."""
        return (self.header(TARGET_HEADER) or "").startswith(LEGACY_TARGET_PREFIX)

    @property
    def plain(self) -> bool:
        """Whether the request line is the one that SDKs send: only then may a hit answer it."""
        return self.method == "POST" and self.target == "/"

    @property
    def streams(self) -> bool:
        """Whether the request is for DynamoDB Streams."""
        return (self.header(TARGET_HEADER) or "").startswith("DynamoDBStreams_")


class Answer(NamedTuple):
    """What goes back to the client, and how it came about.

    A tuple, since there is one with every request and a frozen dataclass takes several times as
    long.

    Args:
        status: HTTP status.
        headers: end-to-end fields; the server adds Date, Content-Length and what is missing of
            `x-amzn-RequestId` and Content-Type.
        body: the exact bytes.
        outcome: how it was answered.
        reason: with BYPASS, why.
        table: the table, where the proxy looked.
        crc32: of `body`, sent as `x-amz-crc32` unless `headers` carry upstream's own.
        ttl_s: with a hit, how long the entry stays fresh; negative when stale.
        detail: further words for Cache-Status.
        expired: an entry was there, but too old to serve.
        demanded: an entry might have answered, but not this request, which limits its age or
            wants it replaced.
        stored: this answer became an entry.
        fetched: `headers` are upstream's to a fetch of the proxy's own, which knew nothing of the
            client's: the server sets what follows the client's request.
    """

    status: int
    headers: Headers
    body: bytes
    outcome: Outcome
    reason: BypassReason | None = None
    table: TableName | None = None
    crc32: int | None = None
    ttl_s: int | None = None
    detail: str | None = None
    expired: bool = False
    demanded: bool = False
    stored: bool = False
    fetched: bool = False

    def explained(self, reason: BypassReason, table: TableName | None) -> Answer:
        """Return the same answer as a bypass for `reason`."""
        return self._replace(outcome=Outcome.BYPASS, reason=reason, table=table)
