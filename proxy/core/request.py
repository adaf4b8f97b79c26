"""One HTTP request and one HTTP answer as plain values, between the server and the flows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from proxy.core.values import BypassReason, Outcome, TableName

TARGET_HEADER: Final = "x-amz-target"
DATA_TARGET_PREFIX: Final = "DynamoDB_20120810."
STREAMS_TARGET_PREFIX: Final = "DynamoDBStreams_20120810."
LEGACY_TARGET_PREFIX: Final = "DynamoDB_20111205."
"""The API before 2012: other shapes of keys, the same tables."""

Headers = tuple[tuple[str, str], ...]
"""Header fields in the order they came, names as they were spelled."""


class HeaderShape:
    """What the header fields of several messages have in common; it is known by identity.

    Clients and DynamoDB send the same fields again and again. Whoever does something about them
    finds out once per shape what that is, and then looks at the few values that differ.

    Args:
        sample: the fields of one of those messages.
        varying: places of the fields whose values differ, ascending; they are ASCII without
            control characters other than tabs. All other fields are those of the sample.
        words: those of them whose values are letters and digits, at least one, dashes, `=` and `;`.

    Attributes:
        places: by name in lower case, the place of the first field of that name.
    """

    __slots__ = ("places", "sample", "varying", "words")

    def __init__(
        self, sample: Headers, *, varying: Sequence[int] = (), words: Collection[int] = ()
    ) -> None:
        self.sample = sample
        self.varying = tuple(varying)
        self.words = frozenset(words)
        self.places: Mapping[str, int] = first_places(sample)


class ShapedHeaders(tuple[tuple[str, str], ...]):  # noqa: SLOT001 - no tuple can have any
    """Header fields with their shape; what is made out of them is a tuple without one."""

    shape: HeaderShape


def shaped(fields: Iterable[tuple[str, str]], shape: HeaderShape) -> ShapedHeaders:
    """Return the fields of a message of this shape."""
    headers = ShapedHeaders(fields)
    headers.shape = shape
    return headers


def first_places(headers: Headers) -> dict[str, int]:
    """Return the place of the first field of each name, by its name in lower case."""
    places: dict[str, int] = {}
    for place, (name, _) in enumerate(headers):
        places.setdefault(name.lower(), place)
    return places


def find_header(headers: Headers, name: str) -> str | None:
    """Return the first value of a field; `name` in lower case."""
    for spelled, content in headers:
        if spelled.lower() == name:
            return content
    return None


class _Call(NamedTuple):
    """What an X-Amz-Target asks for; see `ClientRequest`."""

    operation: str
    legacy: bool
    streams: bool


class _Request(NamedTuple):
    method: str
    target: str
    headers: Headers
    body: bytes
    operation: str
    legacy: bool
    streams: bool
    places: Mapping[str, int]


class ClientRequest(_Request):
    """A complete request: `target` is path and query as sent, `body` the bytes as sent.

    A tuple, as `Answer` is. A request is asked for its fields a dozen times on its way, so it knows
    beforehand what follows from them.

    Attributes:
        operation: the operation's name, `GetItem`; empty for what is not a DynamoDB call.
        legacy: whether the request is in the API before 2012.
        streams: whether the request is for DynamoDB Streams.
        places: of its fields; see `first_places`.
    """

    __slots__ = ()

    def __new__(cls, method: str, target: str, headers: Headers, body: bytes) -> Self:
        """Make one of what was sent."""
        if isinstance(headers, ShapedHeaders):
            places = headers.shape.places
        else:
            places = first_places(headers)
        place = places.get(TARGET_HEADER)
        operation, legacy, streams = _call_of("" if place is None else headers[place][1])
        parts = method, target, headers, body, operation, legacy, streams, places
        return tuple.__new__(cls, parts)

    def _replace(self, **changed: Any) -> Self:
        """Return the same request but for these, and what follows from them."""
        sent = {"method": self.method, "target": self.target, "headers": self.headers}
        return type(self)(**{**sent, "body": self.body, **changed})

    def header(self, name: str) -> str | None:
        """Return the first value of a header field; `name` in lower case."""
        place = self.places.get(name)
        return None if place is None else self.headers[place][1]

    def repeats(self, name: str) -> bool:
        """Tell whether a header field came more than once; `name` in lower case."""
        if len(self.places) == len(self.headers):
            return False
        return sum(spelled.lower() == name for spelled, _ in self.headers) > 1

    @property
    def plain(self) -> bool:
        """Whether the request line is the one that SDKs send: only then may a hit answer it."""
        return self.method == "POST" and self.target == "/"


@lru_cache(maxsize=256)
def _call_of(target: str) -> _Call:
    prefixes = DATA_TARGET_PREFIX, STREAMS_TARGET_PREFIX, LEGACY_TARGET_PREFIX
    prefix = next((prefix for prefix in prefixes if target.startswith(prefix)), target)
    return _Call(
        operation=target.removeprefix(prefix),
        legacy=target.startswith(LEGACY_TARGET_PREFIX),
        streams=target.startswith("DynamoDBStreams_"),
    )


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
