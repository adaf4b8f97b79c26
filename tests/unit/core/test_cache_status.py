"""Claims about the Cache-Status field: one spelling for each way an answer came about."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache_status import cache_status
from proxy.core.request import Answer
from proxy.core.values import BypassReason, FenceResult, Outcome

# RFC 9211 §2 over RFC 9651: a token, then parameters that are flags, integers or tokens.
FIELD = re.compile(r"dynaside(; (hit|collapsed|stored|ttl=-?\d+|(fwd|detail)=[A-Za-z][\w-]*))*")


def status(outcome: Outcome, **rest: Any) -> str:
    """Return the field's value for an answer."""
    return cache_status(Answer(200, (), b"{}", outcome, **rest))


@pytest.mark.parametrize(
    ("outcome", "rest", "value"),
    [
        (Outcome.HIT, {"ttl_s": 42}, "dynaside; hit; ttl=42"),
        (Outcome.HIT, {}, "dynaside; hit; ttl=0"),
        (Outcome.NEGATIVE_HIT, {"ttl_s": 3}, "dynaside; hit; ttl=3; detail=negative"),
        (Outcome.STALE_HIT, {"ttl_s": -7}, "dynaside; hit; ttl=-7; detail=refreshing"),
        (
            Outcome.STALE_HIT,
            {"ttl_s": -7, "detail": "stale-if-error"},
            "dynaside; hit; ttl=-7; detail=stale-if-error",
        ),
        (Outcome.MISS, {}, "dynaside; fwd=miss"),
        (Outcome.MISS, {"stored": True}, "dynaside; fwd=miss; stored"),
        (Outcome.MISS, {"expired": True, "stored": True}, "dynaside; fwd=stale; stored"),
        (Outcome.MISS, {"demanded": True, "stored": True}, "dynaside; fwd=request; stored"),
        (Outcome.COALESCED, {"demanded": True}, "dynaside; fwd=request; collapsed"),
        (Outcome.NOT_CACHED, {}, "dynaside; detail=not-cached"),
        (
            Outcome.PARTIAL,
            {"detail": "hits-3-of-5", "stored": True, "ttl_s": 4},
            "dynaside; fwd=partial; stored; detail=hits-3-of-5",
        ),
        (Outcome.COALESCED, {}, "dynaside; fwd=miss; collapsed"),
        (Outcome.COALESCED, {"expired": True}, "dynaside; fwd=stale; collapsed"),
        (
            Outcome.BYPASS,
            {"reason": BypassReason.STORE_DOWN},
            "dynaside; fwd=bypass; detail=store-down",
        ),
        (
            Outcome.BYPASS,
            {"reason": BypassReason.CONSISTENT_READ, "stored": True},
            "dynaside; fwd=bypass; stored; detail=consistent-read",
        ),
        (Outcome.BYPASS, {}, "dynaside; fwd=bypass"),
        (Outcome.BYPASS, {"detail": "other"}, "dynaside; fwd=bypass; detail=other"),
        (Outcome.WRITE, {}, "dynaside; fwd=bypass"),
        (
            Outcome.WRITE,
            {"detail": "write-stored", "stored": True},
            "dynaside; fwd=bypass; stored; detail=write-stored",
        ),
        (Outcome.FAILED, {}, "dynaside"),
        (
            Outcome.FAILED,
            {"detail": "upstream-timeout"},
            "dynaside; fwd=miss; detail=upstream-timeout",
        ),
        (Outcome.REJECTED, {}, "dynaside; detail=rejected"),
    ],
)
def test_each_outcome_has_its_words(outcome: Outcome, rest: dict[str, Any], value: str) -> None:
    """The field says where the answer came from, how long it lasts and why."""
    assert status(outcome, **rest) == value


@given(
    outcome=st.sampled_from(Outcome),
    reason=st.none() | st.sampled_from(BypassReason),
    ttl_s=st.none() | st.integers(-(10**6), 10**6),
    detail=st.none() | st.sampled_from([f"write-{result}" for result in FenceResult]),
    expired=st.booleans(),
    stored=st.booleans(),
)
def test_every_answer_has_a_well_formed_field(outcome: Outcome, **rest: Any) -> None:
    """Tokens, integers and flags only, whatever the proxy has to say."""
    assert FIELD.fullmatch(status(outcome, **rest))
