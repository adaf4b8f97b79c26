"""Cuts bytes of a known layout into parts, at the speed of C."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

Span = tuple[int, int]
"""Where a part begins, and where it has ended."""


def between(spans: Iterable[Span], end: int) -> Iterator[Span]:
    """Yield what lies before, between and after these parts, which are in order, up to `end`."""
    at = 0
    for start, stop in spans:
        yield at, start
        at = stop
    yield at, end


def taking(spans: Iterable[Span], end: int) -> Struct:
    """Return what takes these parts, in order and apart from each other, out of `end` bytes."""
    form, at = "", 0
    for start, stop in spans:
        form += f"{start - at}x{stop - start}s"
        at = stop
    return Struct(f"{form}{end - at}x")
