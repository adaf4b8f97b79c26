"""Claims about the list of reserved words."""

from __future__ import annotations

from proxy.core.reserved_words import RESERVED_WORDS


def test_the_list_is_whole() -> None:
    """DynamoDB documents 573 reserved words, all upper case."""
    assert len(RESERVED_WORDS) == 573
    assert all(word == word.upper() for word in RESERVED_WORDS)
    assert {"ABORT", "NAME", "STATUS", "TIMESTAMP", "ZONE"} <= RESERVED_WORDS
