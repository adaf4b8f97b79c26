"""Says what upstream's answer to a write proves, operation by operation."""

from __future__ import annotations

import json
from typing import Final

from proxy.core.fence import WriteOutcome, classify_write
from proxy.core.operations import WRITES
from proxy.core.responses import is_throttle
from proxy.core.written_items import PIECEMEAL

_DENIED: Final = b"AccessDenied"
_TYPE_BYTES_MAX: Final = 300  # `__type` comes first; a caller's own text may follow


def outcome_of(operation: str, status: int, body: bytes) -> WriteOutcome:
    """Tell what became of each item that a request writes.

    Returns:
        INVALIDATED, ABORTED or UNKNOWN. A batch is not atomic: unless it was throttled, a refusal
        of it does not prove that no part of it was applied.
    """
    outcome = classify_write(status)
    piecemeal = operation in PIECEMEAL and not is_throttle(status, body)
    if outcome is WriteOutcome.ABORTED and piecemeal:
        return WriteOutcome.INVALIDATED
    return outcome


def is_wholly_applied(operation: str, body: bytes) -> bool:
    """Tell whether a 200 answer proves that this very request wrote all that it says.

    Transactions and statements never do: one that repeats a ClientRequestToken is answered with
    200 and writes nothing.
    """
    if operation in WRITES:
        return True
    if operation != "BatchWriteItem":
        return False
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("UnprocessedItems") == {}


def is_denied(status: int, body: bytes) -> bool:
    """Tell whether upstream refused because the credentials may not do this."""
    return status in (400, 403) and _DENIED in body[:_TYPE_BYTES_MAX]
