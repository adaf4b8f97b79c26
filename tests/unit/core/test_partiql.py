"""Claims about PartiQL statements: the item is found, or only the table, or neither."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.partiql import (
    STATEMENT_CHARACTERS_MAX,
    Statement,
    StatementUnclear,
    read_statement,
)

PARAMETERS = [{"S": "first"}, {"N": "2"}, {"B": "AA=="}]
A, K = {"S": "a"}, {"S": "k"}


def attributes(text: str, parameters: object = None) -> dict[str, Any] | None:
    """Return the attributes that a statement on table t names."""
    read = read_statement(text, parameters)
    assert read is not None
    assert read.tables == ("t",)
    return read.attributes


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ('insert\n into\t"a" value {}', ("a",)),
        ("  DELETE  FROM a", ("a",)),
        ('Update "a.b" SET x=1', ("a.b",)),
        ('UPDATE "a"."index" SET x=1', ("a",)),
        ('UPDATE "a""b" SET x=1', ('a"b',)),
        ("DELETE FROM d-e_f WHERE pk = ?", ("d-e_f",)),
        ("DELETE FROM c.d WHERE pk = 'x'", ("c.d", "c")),
    ],
)
def test_the_table_is_found(statement: str, tables: tuple[str, ...]) -> None:
    """Keywords in any case, blanks anywhere, names quoted or bare; a bare dot may mean either."""
    read = read_statement(statement, None)
    assert read is not None
    assert read.tables == tables


def test_a_table_with_a_bare_dot_has_no_item() -> None:
    """Whether the dot belongs to the name is not known, so its key is not either."""
    assert read_statement("DELETE FROM c.d WHERE pk='x'", None) == Statement(("c.d", "c"), None)


@pytest.mark.parametrize(
    "statement", ["SELECT*FROM a", " select * from a", "EXISTS (SELECT 1)", "EXISTS(SELECT 1)"]
)
def test_a_read_writes_nothing(statement: str) -> None:
    """It has no fence."""
    assert read_statement(statement, None) is None


@pytest.mark.parametrize(
    "statement",
    [
        "",
        " ",
        "UPDATE",
        "UPDATE ''",
        'UPDATE ""',
        'UPDATE "a',
        'UPDATE "a""',
        "UPDATE'a' SET x=1",
        "INSERTINTO a",
        "DELETE a",
        "SELECTED",
        "\u017fELECT * FROM a",
        "EXISTSA",
        "-- a comment\nUPDATE a SET x=1",
        "/**/ UPDATE a SET x=1",
        "REPLACE INTO a",
        "UPSERT INTO a",
        "WITH x AS (SELECT 1) DELETE FROM a",
        "é",
    ],
)
def test_a_statement_without_a_certain_table_is_unclear(statement: str) -> None:
    """It might write, and no fence would cover it."""
    with pytest.raises(StatementUnclear):
        read_statement(statement, PARAMETERS)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("pk='a'", {"pk": A}),
        ("pk = 'a' AND sk = 5", {"pk": A, "sk": {"N": "5"}}),
        ('"pk"=\'a\' and "s""k"=-1.50e+3', {"pk": A, 's"k': {"N": "-1.50e+3"}}),
        ("pk = +7", {"pk": {"N": "+7"}}),
        ("pk='it''s' AND sk=''", {"pk": {"S": "it's"}, "sk": {"S": ""}}),
        ("pk='a' AND n > 5 AND m<>'x' AND l <= -1 AND o != ?", {"pk": A}),
        ("begins_with(v, 'x') AND pk='a' AND contains(s, 'AND pk = ?')", {"pk": A}),
        ("pk='a' AND ok = true AND gone=MISSING AND nothing = null", {"pk": A}),
        ("pk=? AND sk=?", {"pk": PARAMETERS[0], "sk": PARAMETERS[1]}),
        ("contains(v, ?) AND pk=?", {"pk": PARAMETERS[1]}),
        ("v='?' AND pk=?", {"pk": PARAMETERS[0], "v": {"S": "?"}}),
        ("pk='a' RETURNING ALL OLD *", {"pk": A}),
        ("pk='a' returning modified new *", {"pk": A}),
        ("pk='a' AND é = 'x'", None),
    ],
)
def test_equalities_name_the_item(where: str, found: dict[str, Any] | None) -> None:
    """Names and values as DynamoDB reads them; other conditions only narrow."""
    assert attributes(f"DELETE FROM t WHERE {where}", PARAMETERS) == found


@pytest.mark.parametrize(
    ("clauses", "found"),
    [
        ("SET v=? WHERE pk=?", {"pk": PARAMETERS[1]}),
        ("SET v='x' SET w = list_append(w, [?, {'a': ?}]) WHERE pk=?", {"pk": PARAMETERS[2]}),
        ("SET a.b[1] = b + 1 REMOVE c, d WHERE pk='a'", {"pk": A}),
        ("REMOVE c WHERE pk='a' RETURNING ALL NEW *", {"pk": A}),
        ("SET s = set_add(s, <<'WHERE', 'x'>>) WHERE pk='a'", {"pk": A}),
        ("SET s = (SELECT 1 WHERE pk = 'k') WHERE pk='a'", {"pk": A}),
        ("SET pk='k'", None),
        ("SET v=1 -- WHERE pk='a'", None),
        ("SET v=1 /* WHERE pk='a'", None),
        ("SET w = 1 WHERE x = 1 WHERE pk = 'a'", None),
        ("AS x SET v=1 WHERE pk='a'", None),
        ("x SET v=1 WHERE pk='a'", None),
        ("WHERE pk='a'", None),
        ("", None),
    ],
)
def test_parameters_count_over_the_whole_statement(
    clauses: str, found: dict[str, Any] | None
) -> None:
    """A question mark in SET takes its turn; only one WHERE, outside all brackets, counts."""
    assert attributes(f"UPDATE t {clauses}", PARAMETERS) == found


@pytest.mark.parametrize(
    "where",
    [
        "pk='a' OR pk='k'",
        "NOT pk='a'",
        "NOT x=1 AND pk='a'",
        "pk='a' AND x=1 OR pk='k'",
        "pk='a' AND contains(v, 1) OR pk='k'",
        "pk IN ['a', 'k']",
        "pk BETWEEN 'a' AND 'k'",
        "x BETWEEN 1 AND pk='a'",
        "(pk='a')",
        "pk='a' AND (x=1 OR y=2)",
        "pk='a' AND pk='k'",
        "pk='a' AND PK='k'",
        "pk='a' AND \"PK\"='a'",
        "pk='a' AND a.pk='k'",
        "pk='a' AND l[0]='k'",
        "'a'=pk",
        'pk="a"',
        "pk=other",
        "pk='a' || 'k'",
        "pk='a' = 'k'",
        "pk=='a'",
        "pk=- -5",
        "pk='a' AND",
        "AND pk='a'",
        "pk='a' pk='k'",
        "pk='a'; DELETE FROM u",
        "pk='a' -- OR pk='k'",
        "pk='a' /* x */",
        "pk='a\\''",
        "pk=`a`",
        "pk='a",
        "pk=1.",
        "pk=1x",
        "pk=5 'k'",
        "pk=DATE '2026-01-01'",
        "CASE WHEN x AND pk='a' AND y THEN 1 END",
        "size(v) > 1 AND pk='a'",
        "contains(v, 1) OR contains(w, 2) AND pk='a'",
        "pk='a' AND contains(v, [(1]))",
        "pk='a' AND contains(v, 1))",
        "pk='a' AND contains(v, [1)",
        "pk='a' AND contains(v, 1",
        "pk='a' AND v IS MISSING",
        "pk='a' RETURNING x = 'k'",
        "x = 1 WHERE pk='a'",
        "",
    ],
)
@pytest.mark.parametrize("head", ["DELETE FROM t WHERE", "UPDATE t SET v=1 WHERE"])
def test_what_cannot_be_placed_leaves_the_whole_table(head: str, where: str) -> None:
    """No shape is taken for another: then only the table is sure."""
    assert attributes(f"{head} {where}", PARAMETERS) is None


@pytest.mark.parametrize("parameters", [None, [], {"S": "a"}, ["a"], [None]])
def test_a_parameter_that_was_not_given_leaves_the_whole_table(parameters: object) -> None:
    """DynamoDB refuses such a request."""
    assert attributes("DELETE FROM t WHERE pk=?", parameters) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("VALUE {'pk': 'a', 'sk' : ?}", {"pk": A, "sk": PARAMETERS[0]}),
        ("value {'pk':'a','m':{'pk': 'k', 'x': [1, ?]}, 'sk':?}", {"pk": A, "sk": PARAMETERS[1]}),
        ("VALUE {'pk': 'a', 's': <<'pk', ':'>>, 'n': null} RETURNING ALL OLD *", {"pk": A}),
        ("VALUE {'pk': 'a' || 'k', 'sk': 'k'}", {"sk": K}),
        ("VALUE {'pk': 'a', 'pk': 'k'}", None),
        ("VALUE {'pk': 'a', 'PK': 'k'}", None),
        ("VALUE {'pk': 'a', 'PK': {}}", None),
        ("VALUE {pk: 'a'}", None),
        ("VALUE {\"pk\": 'a'}", None),
        ("VALUE {'pk' 'a'}", None),
        ("VALUE {'pk': }", None),
        ("VALUE {'pk': 'a',}", None),
        ("VALUE {}", None),
        ("VALUE {'pk': 'a'}, {'pk': 'k'}", None),
        ("VALUE {'pk': 'a'} {'pk': 'k'}", None),
        ("VALUE {'pk': 'a'} ON CONFLICT DO NOTHING", None),
        ("VALUES {'pk': 'a'}", None),
        ("VALUE <<{'pk': 'a'}>>", None),
        ("VALUE ?", None),
        ("{'pk': 'a'}", None),
        ("VALUE {'pk': 'a'", None),
        ("", None),
    ],
)
def test_an_insert_names_the_item_by_its_members(text: str, found: dict[str, Any] | None) -> None:
    """Of the top level only, with plain values only."""
    assert attributes(f"INSERT INTO t {text}", PARAMETERS) == found


def test_a_statement_longer_than_dynamodb_takes_is_not_taken_apart() -> None:
    """The work that one statement makes is bounded."""
    head = "DELETE FROM t WHERE pk='"
    fitting = f"{head}{'a' * (STATEMENT_CHARACTERS_MAX - len(head) - 1)}'"
    assert attributes(fitting) is not None
    assert attributes(f"{fitting} ") is None


NAMES = st.text(st.sampled_from("abAB_"), min_size=1, max_size=3) | st.text(
    st.characters(exclude_characters="\\", exclude_categories=["Cs"]), min_size=1, max_size=4
)
TEXTS = st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.from_regex(r"[+-]?[0-9]{1,5}(\.[0-9]{1,3})?(e[+-]?[0-9])?", fullmatch=True)
WORDS = {"RETURNING", "WHERE", "AND", "OR", "NOT", "IN", "BETWEEN", "CASE", "SELECT"}


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, list[Any], dict[str, Any]]:
    """Draw a condition, its parameters, and the attributes that it names."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique_by=str.casefold))
    given: list[Any] = []
    parts, named = [], {}
    for name in names:
        plain = name.isascii() and name.isidentifier() and name.upper() not in WORDS
        spelled = name if plain and draw(st.booleans()) else '"' + name.replace('"', '""') + '"'
        kind = draw(st.sampled_from(["S", "N", "?"]))
        if kind == "S":
            value = {"S": draw(TEXTS)}
            literal = "'" + value["S"].replace("'", "''") + "'"
        else:
            value = {"N": draw(NUMBERS)}
            literal = value["N"] if kind == "N" else "?"
        if kind == "?":
            given.append(value)
        named[name] = value
        parts.append(f"{spelled}{draw(st.sampled_from(['=', ' = ']))}{literal}")
    joint = draw(st.sampled_from([" AND ", " and ", "\nAnd "]))
    return joint.join(parts), given, named


@given(conditions(), st.sampled_from(["", " RETURNING ALL OLD *"]))
def test_a_written_condition_is_read_back(
    condition: tuple[str, list[Any], dict[str, Any]], tail: str
) -> None:
    """Whatever the names and values are, each is found as it was meant."""
    text, given, named = condition
    statement = f"UPDATE t SET v = ? WHERE {text}{tail}"
    assert attributes(statement, [{"S": "set"}, *given]) == named


SCRAPS = st.sampled_from(
    ["pk", "=", "'a'", "?", " ", "AND", "OR", "(", ")", "{", "}", "<<", ">>", "'", '"', "WHERE",
     "SET", "VALUE", ":", ",", "--", "RETURNING", "*", "5", ".", "\\", "\n", "é"]
)  # fmt: skip
HEADS = st.sampled_from(["", "DELETE FROM t ", "UPDATE t SET ", "INSERT INTO t VALUE {"])


@given(HEADS, st.lists(SCRAPS, max_size=14).map("".join) | st.text(string.printable, max_size=30))
def test_any_text_is_read_or_unclear(head: str, rest: str) -> None:
    """No statement makes the proxy fail."""
    try:
        read = read_statement(head + rest, PARAMETERS)
    except StatementUnclear:
        return
    assert read is None or all(read.tables)
