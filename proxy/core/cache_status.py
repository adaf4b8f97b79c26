"""Says in the Cache-Status field how an answer came about. Source: RFC 9211."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, assert_never

from proxy.core.request import Answer
from proxy.core.values import BypassReason, Outcome

CACHE_NAME: Final = "dynaside"


def cache_status(answer: Answer) -> str:
    """Return the field's value: `dynaside; hit; ttl=42`, `dynaside; fwd=miss; stored`, ….

    `ttl` is negative for a stale hit (RFC 9211 §2.4). `fwd=stale` means that an entry was there
    but too old, `fwd=request` that this request would not have it, `fwd=partial` that some items of
    a batch were fetched. `detail` gives the reason of a bypass, what a write did to the entry, or
    how much of a batch was there; with a hit, `near` where this process's own copy answered.
    """
    return _worded(
        _Course(
            answer.outcome,
            answer.reason,
            answer.ttl_s,
            answer.detail,
            answer.expired,
            answer.demanded,
            answer.stored,
        )
    )


class _Course(NamedTuple):
    """How an answer came about; its members are the answer's."""

    outcome: Outcome
    reason: BypassReason | None
    ttl_s: int | None
    detail: str | None
    expired: bool
    demanded: bool
    stored: bool


@lru_cache(maxsize=1024)
def _worded(answer: _Course) -> str:
    words = [CACHE_NAME]
    detail = answer.detail
    match answer.outcome:
        case Outcome.HIT | Outcome.NEGATIVE_HIT | Outcome.STALE_HIT:
            words += ["hit", f"ttl={answer.ttl_s or 0}"]
            if detail is None and answer.outcome is not Outcome.HIT:
                detail = "negative" if answer.outcome is Outcome.NEGATIVE_HIT else "refreshing"
        case Outcome.MISS | Outcome.COALESCED | Outcome.PARTIAL:
            words.append(f"fwd={_why_forwarded(answer)}")
            if answer.outcome is Outcome.COALESCED:
                words.append("collapsed")
        case Outcome.BYPASS:
            words.append("fwd=bypass")
            detail = answer.reason.value if answer.reason else detail
        case Outcome.WRITE:
            words.append("fwd=bypass")
        case Outcome.FAILED:
            if detail is not None and detail.startswith("upstream"):
                words.append("fwd=miss")
        case Outcome.REJECTED | Outcome.NOT_CACHED:
            detail = answer.outcome.value.replace("_", "-")
        case _:
            assert_never(answer.outcome)
    if answer.stored:
        words.append("stored")
    if detail is not None:
        words.append(f"detail={detail}")
    return "; ".join(words)


def _why_forwarded(answer: _Course) -> str:
    if answer.outcome is Outcome.PARTIAL:
        return "partial"
    if answer.demanded:
        return "request"
    return "stale" if answer.expired else "miss"
