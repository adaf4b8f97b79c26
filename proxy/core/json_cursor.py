"""Steps through JSON text from value to value, so that a large reply is parsed once.

`proxy.core.json_text` finds the members of one object; here whoever reads an answer descends into
objects and arrays himself, and takes each value both parsed and as it was spelled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from proxy.core.json_text import NotJson

_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class Cursor:
    """A place in a text; it only moves forward.

    Whoever iterates over `members` or `elements` must step over the value (`value`, `members` or
    `elements`) before he asks for the next one.

    Every method raises NotJson where the text is not what is asked for.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    def members(self) -> Iterator[str]:
        """Step through the object that begins here: yield each name, in front of its value.

        A name that occurs twice raises NotJson: which value counts is every parser's own choice.
        """
        seen: set[str] = set()
        for _ in self._parts("{", "}"):
            name, _ = self.value()
            if not isinstance(name, str) or name in seen:
                raise NotJson("not a name of its own")
            seen.add(name)
            self._step_over(":")
            yield name

    def elements(self) -> Iterator[None]:
        """Step through the array that begins here, in front of each element."""
        yield from self._parts("[", "]")

    def value(self) -> tuple[Any, str]:
        """Step over a value; return it parsed and as it is spelled."""
        start = self._at
        try:
            parsed, self._at = _DECODER.raw_decode(self._text, start)
        except (ValueError, RecursionError):
            raise NotJson("not a value") from None
        spelled = self._text[start : self._at]
        self._skip()
        return parsed, spelled

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._at != len(self._text):
            raise NotJson("text after the value")

    def _parts(self, opening: str, closing: str) -> Iterator[None]:
        self._step_over(opening)
        if self._sees(closing):
            self._step_over(closing)
            return
        while True:
            yield
            if self._sees(closing):
                self._step_over(closing)
                return
            self._step_over(",")

    def _sees(self, mark: str) -> bool:
        return self._text.startswith(mark, self._at)

    def _step_over(self, mark: str) -> None:
        if not self._sees(mark):
            raise NotJson(f"no {mark} here")
        self._at += 1
        self._skip()

    def _skip(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        assert match is not None, "no blanks match too"
        self._at = match.end()
