"""Claims of proxy.core.hits: a hit is the answer that any path would give."""

from __future__ import annotations

import pytest

from proxy.core.hits import HitKind
from proxy.core.values import Outcome
from tests.support.hits import hit_of


@pytest.mark.parametrize(
    ("kind", "near", "negative", "outcome", "detail"),
    [
        (HitKind.STORED, False, False, Outcome.HIT, None),
        (HitKind.STORED_NEGATIVE, False, True, Outcome.NEGATIVE_HIT, None),
        (HitKind.NEAR, True, False, Outcome.HIT, "near"),
        (HitKind.NEAR_NEGATIVE, True, True, Outcome.NEGATIVE_HIT, "near-negative"),
    ],
)
def test_a_hit_says_where_it_was_found(
    kind: HitKind, *, near: bool, negative: bool, outcome: Outcome, detail: str | None
) -> None:
    """The same bytes with the same checksum; a copy of this process tells that it was one."""
    hit = hit_of(b"body", near=near, negative=negative, ttl_s=5)
    answer = hit.answer
    assert (hit.kind, hit.outcome, hit.units) == (kind, outcome, 0.5)
    assert (answer.status, answer.headers, answer.body, answer.crc32) == (200, (), b"body", 7)
    assert (answer.outcome, answer.detail, answer.ttl_s, answer.table) == (
        *(outcome, detail, 5),
        "orders",
    )
