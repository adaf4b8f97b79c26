"""Claims about key conditions: which equalities hold for every item, and what is left unclear."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.key_condition import ConditionUnclear, read_key_condition, read_key_conditions

P, S, T = {"S": "p"}, {"N": "1"}, {"N": "2"}
NAMES = {"#p": "partition", "#0": "with.dot"}
VALUES: dict[str, Any] = {":p": P, ":s": S, ":t": T, ":0": P, "(": P}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("pk = :p", [("pk", P)]),
        ("pk=:p", [("pk", P)]),
        (" ( pk\t=\n:p ) ", [("pk", P)]),
        ("#p = :p", [("partition", P)]),
        ("#0 = :0", [("with.dot", P)]),
        ("pk = :p AND sk = :s", [("pk", P), ("sk", S)]),
        ("sk = :s and pk = :p", [("sk", S), ("pk", P)]),
        ("(pk = :p) AND (sk < :s)", [("pk", P)]),
        ("((pk = :p AND sk >= :s))", [("pk", P)]),
        ("pk = :p AND sk BETWEEN :s AND :t", [("pk", P)]),
        ("sk between :s and :t AND pk = :p", [("pk", P)]),
        ("pk = :p AND begins_with(sk, :s)", [("pk", P)]),
        ("pk = :p AND begins_with ( #p , :s )", [("pk", P)]),
        ("begins_with = :p", [("begins_with", P)]),
        ("sk <= :s", []),
        ("sk > :s", []),
    ],
)
def test_equalities_of_a_conjunction_are_found(expression: str, expected: list[Any]) -> None:
    """However it is spelled, in whatever order; other comparisons say nothing."""
    assert read_key_condition(expression, NAMES, VALUES) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "pk",
        "pk =",
        "pk = :p AND",
        "pk = :p OR sk = :s",
        "NOT pk = :p",
        "pk <> :p",
        "pk IN (:p)",
        "pk = p",
        ":p = pk",
        "pk = :unknown",
        "pk = (",
        "#unknown = :p",
        "pk.a = :p",
        "pk[0] = :p",
        "_pk = :p",
        "and = :p",
        "pk = :p sk = :s",
        "(pk = :p",
        "pk = :p)",
        "((((((((pk = :p))))))))",
        "pk = :p AND sk BETWEEN :s OR :t",
        "pk = :p AND sk BETWEEN :s",
        "begins_with(pk :p)",
        "begins_with(pk, :p",
        "begins_with(:p, pk)",
        "begins_with(, pk)",
        "contains(pk, :p)",
        "size(pk) = :p",
        "pk = :p AND sk = 'x'",
        "pk = :p" + " " * 4096,
    ],
)
def test_anything_else_is_unclear(expression: str) -> None:
    """What is not certainly such a conjunction is left to DynamoDB."""
    with pytest.raises(ConditionUnclear):
        read_key_condition(expression, NAMES, VALUES)


@pytest.mark.parametrize("names", [{"#p": ""}, {"#p": 1}, {"#p": None}, {}])
def test_a_placeholder_must_mean_a_name(names: dict[str, object]) -> None:
    """An undefined or odd placeholder is DynamoDB's error to word."""
    with pytest.raises(ConditionUnclear):
        read_key_condition("#p = :p", names, VALUES)


@given(st.text("pk#:=()<>, ANDbetwins_", max_size=40))
def test_any_text_is_read_or_unclear(expression: str) -> None:
    """Nothing else is ever raised, and every equality names one of the values."""
    try:
        equalities = read_key_condition(expression, NAMES, VALUES)
    except ConditionUnclear:
        return
    assert all(value in VALUES.values() for _, value in equalities)


def condition(operator: object, *values: object) -> dict[str, object]:
    """Return one of the older conditions."""
    return {"ComparisonOperator": operator, "AttributeValueList": list(values)}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, []),
        ({"pk": condition("EQ", P)}, [("pk", P)]),
        ({"pk": condition("EQ", P), "sk": condition("BETWEEN", S, T)}, [("pk", P)]),
        ({"pk": condition("EQ", P), "sk": condition("EQ", S)}, [("pk", P), ("sk", S)]),
        ({"pk": condition("EQ", P, P)}, []),
    ],
)
def test_equalities_of_older_conditions_are_found(
    conditions: dict[str, Any], expected: list[Any]
) -> None:
    """EQ with one value is one; whatever else is said about an attribute is not."""
    assert read_key_conditions(conditions) == expected


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {},
        condition(1, P),
        {"ComparisonOperator": "EQ"},
        condition("EQ", P) | {"More": 1},
        {"ComparisonOperator": "EQ", "AttributeValueList": P},
    ],
)
def test_an_older_condition_of_another_shape_is_unclear(odd: object) -> None:
    """A member unknown here may change what it means."""
    with pytest.raises(ConditionUnclear):
        read_key_conditions({"pk": odd})
