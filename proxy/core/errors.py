"""The proxy's own errors; each class says who must act.

A library's exceptions stop at its file in `proxy.edge`, where they become one of these. Only
`proxy.core.responses` turns them into bytes for the client.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from proxy.core.values import TableName

VALIDATION_EXCEPTION: Final = "com.amazon.coral.validate#ValidationException"


class ProxyError(Exception):
    """Base of every error the proxy raises on purpose."""


class RequestRejected(ProxyError):
    """The client must change its request: answered 4xx in DynamoDB's shape, never retried by SDKs.

    Args:
        error_type: the full `__type`, such as `com.amazon.coral.service#SerializationException`.
        message: text for the caller; empty when DynamoDB itself sends none.
        status: HTTP status, 400 unless told otherwise.
    """

    def __init__(self, error_type: str, message: str = "", *, status: int = 400) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message
        self.status = status


class NotCached(ProxyError):
    """The client wanted a cached answer or none; there is none, and it decides what to do.

    Args:
        why: why not, in a word.
        table: the table, where it could be read.
    """

    def __init__(self, why: str, table: TableName | None) -> None:
        super().__init__(f"no cached answer: {why}")
        self.table = table


class Overloaded(ProxyError):
    """A bound of the process is reached: time must act; answered 503, which SDKs retry."""


class UpstreamFailure(StrEnum):
    """Why no complete answer came from DynamoDB; a metric label and a log field."""

    CONNECT = "connect"  # no connection: nothing was sent
    TIMEOUT = "timeout"  # silent for longer than the time-out
    RESET = "reset"  # the connection broke after something was sent
    CREDENTIALS = "credentials"  # none to sign with: nothing was sent
    OVERLOAD = "overload"  # every upstream connection is busy: nothing was sent


class UpstreamFailed(ProxyError):
    """DynamoDB was silent or unreachable: the operator, or time, must act; SDKs retry.

    Args:
        failure: the reason.
        message: text for the log and the client; no item data.
        maybe_applied: whether a write may have taken effect (something left this process).
    """

    def __init__(self, failure: UpstreamFailure, message: str, *, maybe_applied: bool) -> None:
        super().__init__(message)
        self.failure = failure
        self.maybe_applied = maybe_applied


class StoreFailure(StrEnum):
    """Why the store could not be used; a metric label and a log field."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    REFUSED = "refused"  # an error reply: out of memory, read-only replica, no permission
    CLOSED = "closed"  # not connected, or the breaker is open: nothing was sent
    FULL = "full"  # a bound of ours was reached
    UNSETTLED = "unsettled"  # the primary is new, and an older one may still serve: nothing sent


class StoreUnavailable(ProxyError):
    """Redis/Valkey is out: answer from upstream instead; the operator must look at the store.

    Args:
        failure: the reason.
        message: text for the log; no cache key, no item data.
        partial: only a part of the store is out; other records may well be there.
    """

    def __init__(self, failure: StoreFailure, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.failure = failure
        self.partial = partial


class SettingsInvalid(ProxyError):
    """The operator must change the configuration.

    Args:
        problems: every problem found, one line each, with the source it came from.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
