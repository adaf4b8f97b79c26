"""Claims of proxy.edge.blanks."""

from __future__ import annotations

from proxy.edge.blanks import Blanks, mark, marked

HEADERS = (("A", "1"), ("B", "2"), ("C", "3"))


def test_fields_and_names_are_filled_in() -> None:
    """Each in its place, as often as it has one; all else is as it was spelled."""
    text = "".join(f"{name}: {value}|" for name, value in marked(HEADERS, {0, 2}))
    blanks = Blanks(f"{mark('first')}%s|{text}{mark('0')}")
    pieces = blanks.pieces((("A", "x"), ("B", "y"), ("C", "caf\u00e9")))
    pieces[blanks.named["first"]] = b"!"
    assert b"".join(pieces) == b"!%s|A: x|B: 2|C: caf\xc3\xa9|x"


def test_filling_in_leaves_the_blanks() -> None:
    """One text serves many."""
    blanks = Blanks(f"{mark('a')}{mark('0')}")
    for value in ("1", "2"):
        pieces = blanks.pieces((("A", value),))
        pieces[blanks.named["a"]] = b"0"
        assert b"".join(pieces) == b"0" + value.encode()


def test_a_text_without_blanks_is_itself() -> None:
    """Nothing is to be filled in."""
    blanks = Blanks("a")
    assert (blanks.pieces(HEADERS), blanks.named) == ([b"a"], {})
