"""Builds the bodies and header fields of answers; the shapes are DynamoDB's own.

Source: DynamoDB Developer Guide, "Low-level API" and "Error handling"; AWS JSON 1.0 protocol.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.core.errors import (
    NotCached,
    Overloaded,
    ProxyError,
    RequestRejected,
    StoreFailure,
    StoreUnavailable,
    UpstreamFailed,
    UpstreamFailure,
)
from proxy.core.item_size import item_bytes
from proxy.core.json_text import compact, members, sole_member
from proxy.core.operations import Capacity, GetItem
from proxy.core.request import Answer, ClientRequest, Headers
from proxy.core.values import Outcome, TableName

JSON_1_0: Final = "application/x-amz-json-1.0"
EMPTY_BODY: Final = b"{}"
INTERNAL_SERVER_ERROR: Final = "com.amazonaws.dynamodb.v20120810#InternalServerError"
SERVICE_UNAVAILABLE: Final = "com.amazonaws.dynamodb.v20120810#ServiceUnavailableException"
NOT_CACHED_EXCEPTION: Final = "com.dynaside#NotCachedException"
"""A name that no SDK knows, with HTTP 400: none repeats the request."""
MISSING_TOKEN: Final = "com.amazon.coral.service#MissingAuthenticationTokenException"  # noqa: S105 - an error's name

# Fixed: the error's own text may quote the store's reply or its address.
_STORE_UNAVAILABLE: Final = (
    "dynaside: the store is unavailable, and nothing was sent: the table is strict, or too many"
    " invalidations are owed to the store already"
)
_STORE_UNSETTLED: Final = (
    "dynaside: the store's primary is new, and nothing was sent: writes to strict tables wait"
    " until no older primary can serve"
)

_THROTTLES: Final = (
    b"ProvisionedThroughputExceededException",
    b"ThrottlingException",
    b"RequestLimitExceeded",
    b"ThrottledException",
)


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """What a GetItem reply says about the item.

    Args:
        body: the reply without ConsumedCapacity: `{"Item":{…}}` or `{}`, item spelled as it came.
        item: the item, or None for "no such item".
        consumed: upstream's ConsumedCapacity, if it gave one.

    Attributes:
        size_bytes: the item's size by DynamoDB's rules; 0 for an absence. Added up once: it is
            asked for when the read is charged for, and when the item is stored.
    """

    body: bytes
    item: dict[str, Any] | None
    consumed: dict[str, Any] | None
    size_bytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size_bytes = 0 if self.item is None else item_bytes(self.item)
        object.__setattr__(self, "size_bytes", size_bytes)

    @property
    def negative(self) -> bool:
        """Whether there is no such item."""
        return self.item is None


def read_get_reply(body: bytes) -> FetchedBody | None:
    """Take a GetItem reply apart without re-spelling the item.

    Returns:
        None when the bytes are not a GetItem reply the proxy understands: it is passed on, not
        cached.
    """
    try:
        text = body.decode()
        item = sole_member(text, "Item")  # the usual reply, parsed once
        if isinstance(item, dict):
            return FetchedBody(body, item, None)
        parts = members(text)
        spelled = {name: text[start:end] for name, start, end in parts}
        found = {name: json.loads(value) for name, value in spelled.items()}
    except (ValueError, RecursionError):
        return None
    consumed = found.get("ConsumedCapacity")
    if len(found) != len(parts) or not found.keys() <= {"Item", "ConsumedCapacity"}:
        return None
    if not isinstance(consumed, dict | None):
        return None
    if "Item" not in found:
        return FetchedBody(EMPTY_BODY, None, consumed)
    if not isinstance(found["Item"], dict):
        return None
    if len(parts) > 1:
        body = b'{"Item":' + spelled["Item"].encode() + b"}"
    return FetchedBody(body, found["Item"], consumed)


def item_text(body: bytes, member: str) -> tuple[dict[str, Any], bytes] | None:
    """Return a reply's member that is an item, parsed and as bytes, or None if it has none."""
    try:
        text = body.decode()
        for name, start, end in members(text):
            if name == member:
                item = json.loads(text[start:end])
                return (item, text[start:end].encode()) if isinstance(item, dict) else None
    except (ValueError, RecursionError):
        pass
    return None


def get_body(get: GetItem, whole: bytes, consumed: dict[str, Any] | None) -> bytes:
    """Answer a GetItem from a whole-item body.

    Args:
        get: what was asked.
        whole: `{"Item":{…}}` or `{}`.
        consumed: the ConsumedCapacity to report; None reports 0 units, when it was asked for.
    """
    body = whole
    if get.projection is not None and whole != EMPTY_BODY:
        body = compact({"Item": get.projection.apply(json.loads(whole)["Item"])})
    if get.capacity is Capacity.NONE:
        return body
    capacity = compact(consumed or no_capacity(get.table, get.capacity))
    separator = b"" if body == EMPTY_BODY else b","
    return b'{"ConsumedCapacity":' + capacity + separator + body.lstrip()[1:]


def no_capacity(table: TableName, capacity: Capacity) -> dict[str, Any]:
    """Return the ConsumedCapacity of a read that cost nothing."""
    total: dict[str, Any] = {"TableName": table, "CapacityUnits": 0.0}
    if capacity is Capacity.INDEXES:
        total["Table"] = {"CapacityUnits": 0.0}
    return total


def is_throttle(status: int, body: bytes) -> bool:
    """Tell whether upstream refused for load; DynamoDB throttles with HTTP 400."""
    return status == 400 and any(name in body[:300] for name in _THROTTLES)  # noqa: PLR2004


def error_answer(error: ProxyError) -> Answer:
    """Turn an error of the proxy into an answer that SDKs retry, or do not, as they should."""
    match error:
        case RequestRejected():
            outcome, status = Outcome.REJECTED, error.status
            error_type, message = error.error_type, error.message
        case NotCached():
            outcome, status, error_type = Outcome.NOT_CACHED, 400, NOT_CACHED_EXCEPTION
            message = f"dynaside: {error}"
        case (
            UpstreamFailed(failure=UpstreamFailure.CONNECT | UpstreamFailure.OVERLOAD)
            | Overloaded()
        ):
            outcome, status, error_type = Outcome.FAILED, 503, SERVICE_UNAVAILABLE
            message = f"dynaside: {error}"
        case StoreUnavailable():
            outcome, status, error_type = Outcome.FAILED, 500, INTERNAL_SERVER_ERROR
            unsettled = error.failure is StoreFailure.UNSETTLED
            message = _STORE_UNSETTLED if unsettled else _STORE_UNAVAILABLE
        case _:
            outcome, status, error_type = Outcome.FAILED, 500, INTERNAL_SERVER_ERROR
            message = f"dynaside: {error}"
    content = {"__type": error_type} | ({"message": message} if message else {})
    body = compact(content)
    table = error.table if isinstance(error, NotCached) else None
    return Answer(
        status, (), body, outcome, table=table, crc32=zlib.crc32(body), detail=_detail(error)
    )


def internal_error(message: str = "an invariant of dynaside does not hold; see its log") -> Answer:
    """Return the answer to a request that met a bug or a bound of the proxy: SDKs retry it."""
    body = compact({"__type": INTERNAL_SERVER_ERROR, "message": f"dynaside: {message}"})
    return Answer(500, (), body, Outcome.FAILED, crc32=zlib.crc32(body))


def content_type(asked: str | None) -> str:
    """Return the answer's Content-Type, which follows the request's as DynamoDB's does."""
    plain = (asked or "").partition(";")[0].strip().lower()
    return "application/json" if plain == "application/json" else JSON_1_0


def cors_headers(request: ClientRequest) -> Headers:
    """Return what DynamoDB adds for browsers, on answers that do not come from upstream."""
    if request.header("origin") is None:
        return ()
    return (
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,Date"),
    )


def _detail(error: ProxyError) -> str | None:
    match error:
        case UpstreamFailed():
            return f"upstream-{error.failure}"
        case StoreUnavailable():
            unsettled = error.failure is StoreFailure.UNSETTLED
            return "store-unsettled" if unsettled else "store-down"
        case Overloaded():
            return "overloaded"
        case _:
            return None
