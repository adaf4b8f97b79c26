"""Texts with blanks: what many heads have in common is spelled once, the rest is filled in.

Bytes in a list, joined: a third of the time that formatting and encoding take.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from proxy.core.request import Headers

_MARK: Final = re.compile("\0([0-9a-z]+)\0")


def mark(name: str) -> str:
    """Return what stands for a blank of this name, in small letters."""
    return f"\0{name}\0"


def marked(headers: Headers, places: Collection[int]) -> Headers:
    """Return header fields with blanks for the values at some places."""
    return tuple(
        (name, mark(str(place)) if place in places else text)
        for place, (name, text) in enumerate(headers)
    )


class Blanks:
    """A text with blanks to fill in.

    Args:
        text: with marks for blanks, by their names or by places of header fields.

    Attributes:
        named: where the pieces of named blanks are.
    """

    __slots__ = ("_pieces", "_placed", "named")

    def __init__(self, text: str) -> None:
        parts = _MARK.split(text)  # what stands between marks, and marks' names, in turn
        self._pieces = [part.encode() for part in parts]
        marks = {index: parts[index] for index in range(1, len(parts), 2)}
        self._placed = [(index, int(name)) for index, name in marks.items() if name.isdigit()]
        self.named = {name: index for index, name in marks.items() if not name.isdigit()}

    def pieces(self, headers: Headers) -> list[bytes]:
        """Return the pieces of the text, fields' values filled in: to be joined by the caller."""
        pieces = self._pieces.copy()
        for index, place in self._placed:
            pieces[index] = headers[place][1].encode()
        return pieces
