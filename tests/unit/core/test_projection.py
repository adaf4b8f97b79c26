"""Claims about projections: what they take, what they cut out, what is left to upstream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.projection import (
    Path,
    Projection,
    ProjectionUnclear,
    parse_attributes_to_get,
    parse_projection,
)

ITEM: dict[str, Any] = {
    "pk": {"S": "a"},
    "a.b": {"S": "dotted"},
    "n": {"N": "1"},
    "doc": {
        "M": {
            "x": {"N": "1"},
            "y": {"M": {"z": {"N": "2"}, "w": {"NULL": True}}},
            "l": {"L": [{"S": "0"}, {"M": {"p": {"S": "1p"}, "q": {"S": "1q"}}}, {"S": "2"}]},
        }
    },
    "l": {"L": [{"L": [{"S": "00"}, {"S": "01"}]}, {"S": "1"}, {"M": {"m": {"S": "2m"}}}]},
}
LIST_OF_DOC = ITEM["doc"]["M"]["l"]["L"]


@pytest.mark.parametrize(
    ("expression", "names", "paths"),
    [
        ("pk", None, [("pk",)]),
        (" pk ,\n\tdoc.x ", None, [("pk",), ("doc", "x")]),
        ("a_1.B2[0][10].c", None, [("a_1", "B2", 0, 10, "c")]),
        ("\ra.b[3]\n", None, [("a", "b", 3)]),
        ("#1, #n.#_x[2]", {"#1": "a.b", "#n": "name", "#_x": " "}, [("a.b",), ("name", " ", 2)]),
        ("#a.x, #a.y", {"#a": "a"}, [("a", "x"), ("a", "y")]),
        ("#a, #b", {"#a": "[3]", "#b": "é"}, [("[3]",), ("é",)]),
    ],
)
def test_well_formed_expressions_are_parsed(
    expression: str, names: dict[str, str] | None, paths: list[Path]
) -> None:
    """Paths, placeholders, indexes and blanks are understood."""
    assert parse_projection(expression, names).paths == tuple(paths)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        ",",
        "a,",
        ",a",
        "a,,b",
        "a b",
        "a.",
        ".a",
        "a..b",
        "a[",
        "a[]",
        "a[x]",
        "a[-1]",
        "[0]",
        "a .b",
        "a. b",
        "a [0]",
        "a[ 0]",
        "a[0",
        "a[01]",
        "a[100000]",
        "a[0]b",
        "a.[0]",
        "1a",
        "_a",
        "a._b",
        "a-b",
        "é",
        "a\x0bb",
        "#",
        "a.#",
        "a[\u0663]",
        "a\u00a0",
        "name",
        "Status",
        "a.YEAR",
        "a[0].size",
        "#n",
        "a" * 4097,
        "a" + ".b" * 32,
    ],
)
def test_what_is_not_certainly_well_formed_is_left_to_upstream(expression: str) -> None:
    """Bad syntax, reserved words, undefined placeholders and bounds are DynamoDB's to word."""
    with pytest.raises(ProjectionUnclear):
        parse_projection(expression, None)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a", {}),
        ("a", {"#n": "b"}),
        ("#n", {"#n": "b", "#m": "c"}),
        ("#n", {"#n": ""}),
        ("#n", {"#n": "é" * 128}),
        ("#n", {"#n": "\ud800"}),
        ("#n", {"#n": 1}),
        ("#n", {"n": "a"}),
        ("a, a", {"#n": "b"}),
    ],
)
def test_doubtful_placeholders_are_left_to_upstream(expression: str, names: dict[str, Any]) -> None:
    """Unused, undefined, empty or ill-formed names are DynamoDB's to word."""
    with pytest.raises(ProjectionUnclear):
        parse_projection(expression, names)


@pytest.mark.parametrize(
    "expression",
    ["a, a", "a, b, a.b", "a.b[2].c, a.b", "a[0], a[0]", "#a.b, a.b", "a, a.b, a.c", "a.b.c, a"],
)
def test_overlapping_paths_are_left_to_upstream(expression: str) -> None:
    """Paths of which one is part of another, or is it again, are DynamoDB's to word."""
    with pytest.raises(ProjectionUnclear):
        parse_projection(expression, {"#a": "a"} if "#" in expression else None)


@pytest.mark.parametrize("expression", ["a.b, a[1]", "a[1].x, a.b", "a, a, b.c, b[0]"])
def test_conflicting_paths_are_left_to_upstream(expression: str) -> None:
    """Engines differ on paths that take one attribute for a list and for a map."""
    with pytest.raises(ProjectionUnclear):
        parse_projection(expression, None)


@pytest.mark.parametrize("expression", ["a.b, a.c", "a[0], a[1]", "a.b, c.b", "a.b.c, a.d[0]"])
def test_common_beginnings_are_no_overlap(expression: str) -> None:
    """Paths that part somewhere may stand side by side."""
    assert len(parse_projection(expression, None).paths) == 2


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("pk, n", {"pk": ITEM["pk"], "n": ITEM["n"]}),
        ("doc", {"doc": ITEM["doc"]}),
        ("doc.x, pk", {"pk": {"S": "a"}, "doc": {"M": {"x": {"N": "1"}}}}),
        ("doc.y.z", {"doc": {"M": {"y": {"M": {"z": {"N": "2"}}}}}}),
        ("doc.l[2], doc.l[0]", {"doc": {"M": {"l": {"L": [LIST_OF_DOC[0], LIST_OF_DOC[2]]}}}}),
        ("doc.l[1].q", {"doc": {"M": {"l": {"L": [{"M": {"q": {"S": "1q"}}}]}}}}),
        ("l[2].m, l[0][1]", {"l": {"L": [{"L": [{"S": "01"}]}, {"M": {"m": {"S": "2m"}}}]}}),
        ("l[1].m, l[2]", {"l": {"L": [{"M": {"m": {"S": "2m"}}}]}}),
        ("#d", {"a.b": {"S": "dotted"}}),
    ],
)
def test_paths_cut_out_what_they_name(expression: str, found: dict[str, Any]) -> None:
    """Only named branches stay; selected elements close up in the order of the list."""
    names = {"#d": "a.b"} if "#" in expression else None
    assert parse_projection(expression, names).apply(ITEM) == found


@pytest.mark.parametrize(
    "expression",
    ["x", "a.b", "pk.x", "pk[0]", "doc.q", "doc[0]", "doc.y.z.k", "l.m", "l[3]", "l[1].m"],
)
def test_paths_that_lead_nowhere_leave_no_trace(expression: str) -> None:
    """A present item in which nothing is found is `{}`."""
    assert parse_projection(expression, None).apply(ITEM) == {}


@pytest.mark.parametrize(
    ("expression", "names"),
    [("a", ("a",)), ("b.c, a[1], b.d[0].e, a[0]", ("b", "a"))],
)
def test_a_projection_tells_the_attributes_it_starts_from(
    expression: str, names: tuple[str, ...]
) -> None:
    """Whoever has these attributes of an item has all that the paths can find."""
    projection = parse_projection(expression, None)
    assert projection.names == names
    item = {name: {"S": name} for name in "abcde"}
    assert projection.apply({name: item[name] for name in names}) == projection.apply(item)


def test_attributes_to_get_names_whole_attributes() -> None:
    """Names are taken literally: no paths, no placeholders, no reserved words."""
    projection = parse_attributes_to_get(["a.b", "doc", "name"])
    assert projection.paths == (("a.b",), ("doc",), ("name",))
    assert projection.apply(ITEM) == {"a.b": ITEM["a.b"], "doc": ITEM["doc"]}


@pytest.mark.parametrize(
    "names", [[], ["a", "a"], [""], [1], [None], [["a"]], ["\ud800"], ["é" * 128], ["a"] * 256]
)
def test_doubtful_attributes_to_get_are_left_to_upstream(names: list[Any]) -> None:
    """Empty lists, repeated names and what is no name are DynamoDB's to word."""
    with pytest.raises(ProjectionUnclear):
        parse_attributes_to_get(names)


@given(st.text("ab#.,[]01_ \t", max_size=24), st.none() | st.just({"#a": "x", "#b": "y"}))
def test_any_text_parses_or_is_refused(expression: str, names: dict[str, str] | None) -> None:
    """No expression raises anything but ProjectionUnclear."""
    try:
        projection = parse_projection(expression, names)
    except ProjectionUnclear:
        return
    assert projection.paths
    assert projection == Projection(projection.paths)


@given(
    st.permutations(["pk", "doc.x", "doc.l[0]", "doc.l[2]", "l[0][1]", "x.y"]), st.integers(1, 6)
)
def test_order_of_paths_does_not_matter(paths: list[str], count: int) -> None:
    """The same paths in another order find the same."""
    one = parse_projection(", ".join(paths[:count]), None)
    two = parse_projection(", ".join(reversed(paths[:count])), None)
    assert one.apply(ITEM) == two.apply(ITEM)


def test_the_longest_expression_is_judged_at_once() -> None:
    """Two thousand paths are compared by their beginnings, not pair by pair."""
    assert len(parse_projection(",".join(f"a[{n}]" for n in range(600)), None).paths) == 600
