"""Claims of proxy.core.spans."""

from __future__ import annotations

from proxy.core.spans import between, taking

TEXT = b"0123456789"


def test_parts_are_taken_in_their_order() -> None:
    """Empty ones too; what follows the known bytes does not matter."""
    take = taking([(1, 3), (3, 3), (5, 9)], len(TEXT)).unpack_from
    assert take(TEXT + b"more") == (b"12", b"", b"5678")


def test_what_lies_between_is_all_the_rest() -> None:
    """Before the first one, between any two, and after the last one."""
    assert list(between([(1, 3), (3, 4), (8, 10)], 10)) == [(0, 1), (3, 3), (4, 8), (10, 10)]
    assert list(between([], 10)) == [(0, 10)]
