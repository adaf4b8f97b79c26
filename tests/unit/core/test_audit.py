"""Claims about `proxy.core.audit`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.audit import Finding, judge, mark_of, same_answer
from proxy.core.record import Entry
from proxy.core.values import AuditResult, Digest, Generation, Incarnation, Verdict

ENTRY = Entry(
    incarnation=Incarnation(b"i" * 8),
    generation=Generation(b"g" * 8),
    digest=Digest(b"d" * 16),
    filled_ms=10_000,
    soft_ms=70_000,
    hard_ms=100_000,
    negative=False,
    item_bytes=5,
    crc32=1,
    body=b'{"Item":{"v":{"S":"1"}}}',
)
INCONCLUSIVE = Finding(AuditResult.INCONCLUSIVE)


def test_entry_that_is_still_there_is_stale() -> None:
    """Its age is the longest that it can have been wrong."""
    now = ENTRY._replace()
    assert judge(ENTRY, now, Verdict.FRESH, 12_500) == Finding(AuditResult.STALE, 2.5)


def test_age_is_never_negative() -> None:
    """A clock that was set back is no reason for nonsense."""
    assert judge(ENTRY, ENTRY, Verdict.FRESH, 9_000).age_s == 0


@pytest.mark.parametrize(
    "now",
    [
        None,
        ENTRY._replace(filled_ms=10_001),
        ENTRY._replace(soft_ms=70_001),
        ENTRY._replace(generation=Generation(b"h" * 8)),
        ENTRY._replace(body=b"{}"),
    ],
    ids=["nothing", "filled later", "other times", "other generation", "other body"],
)
def test_any_other_entry_proves_nothing(now: Entry | None) -> None:
    """A write may have come between: nobody can tell whether the hit was right."""
    assert judge(ENTRY, now, Verdict.FRESH, 12_500) == INCONCLUSIVE


@pytest.mark.parametrize("verdict", Verdict)
def test_entry_that_may_not_be_served_proves_nothing(verdict: Verdict) -> None:
    """It expired meanwhile; a reader that wants younger ones only changes nothing."""
    gone = verdict in (Verdict.EXPIRED, Verdict.ABSENT)
    expected = AuditResult.INCONCLUSIVE if gone else AuditResult.STALE
    assert judge(ENTRY, ENTRY, verdict, 12_500).result is expected


def item(**attributes: Any) -> bytes:
    """Return a GetItem's answer."""
    return json.dumps({"Item": attributes}).encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"{}", b"{}"),
        (b'{"Item": {"a":{"S":"x"}}}', item(a={"S": "x"})),
        (item(a={"N": "1"}, b={"S": "x"}), item(b={"S": "x"}, a={"N": "1.0"})),
        (item(a={"SS": ["x", "y"]}), item(a={"SS": ["y", "x"]})),
        (item(a={"NS": ["1", "20"]}), item(a={"NS": ["2e1", "1"]})),
        (item(a={"BS": ["eA==", "eQ=="]}), item(a={"BS": ["eQ==", "eA=="]})),
        (item(a={"N": "no number"}), b' {"Item":{"a":{"N":"no number"}}}'),
        (
            item(a={"M": {"b": {"L": [{"N": "1"}]}}}),
            item(a={"M": {"b": {"L": [{"N": "1.0"}]}}}),
        ),
        (b'{"Item":{},"ConsumedCapacity":{"CapacityUnits":0}}', b'{"Item":{}}'),
        (
            b'{"Responses":{"t":[{"a":{"S":"x"}},{"a":{"N":"1"}}]}}',
            b'{"Responses":{"t":[{"a":{"N":"1.0"}},{"a":{"S":"x"}}]}}',
        ),
    ],
)
def test_what_dynamodb_takes_for_equal_is_the_same(one: bytes, other: bytes) -> None:
    """Spelling, order where it says nothing, and capacity do not count."""
    assert same_answer(one, other) is True
    assert same_answer(other, one) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (item(a={"S": "x"}), b"{}"),
        (item(a={"S": "1"}), item(a={"N": "1"})),
        (item(a={"S": "1"}), item(a={"S": "1.0"})),
        (item(a={"L": [{"S": "x"}, {"S": "y"}]}), item(a={"L": [{"S": "y"}, {"S": "x"}]})),
        (item(N={"S": "1"}), item(N={"S": "1.0"})),
        (item(SS={"L": []}), item(SS={"SS": []})),
        (
            b'{"Items":[{"a":{"N":"1"}},{"a":{"N":"2"}}]}',
            b'{"Items":[{"a":{"N":"2"}},{"a":{"N":"1"}}]}',
        ),
        (b'{"Responses":{"t":[{"a":{"S":"x"}}]}}', b'{"Responses":{"t":[]}}'),
        (b'{"Responses":5}', b'{"Responses":6}'),
    ],
)
def test_what_differs_to_a_reader_differs(one: bytes, other: bytes) -> None:
    """Types, texts, and the order of lists and pages count."""
    assert same_answer(one, other) is False


@pytest.mark.parametrize("broken", [b"", b"[]", b"{", b"\xff", b'{"a":' + b"[" * 100_000])
def test_what_cannot_be_read_is_not_judged(broken: bytes) -> None:
    """Neither the same nor different."""
    assert same_answer(broken, b"{}") is None


def test_mark_tells_items_apart_within_one_process() -> None:
    """The same item has the same mark, until the next process with a secret of its own."""
    digest, other = Digest(b"d" * 16), Digest(b"e" * 16)
    marks = {mark_of(digest, b"1"), mark_of(other, b"1"), mark_of(digest, b"2")}
    assert len(marks) == 3
    assert mark_of(digest, b"1") in marks
    assert all(len(mark) == 16 for mark in marks)
