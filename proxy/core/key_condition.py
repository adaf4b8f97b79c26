"""Finds what every item of a Query must have equal: its partition key's value, at least.

Only a plain conjunction is read: then each equality in it holds for every item of the answer, and
a write of such an item raises that value's scope. Whatever else an expression may say is
`ConditionUnclear`, and DynamoDB judges it.

Source: DynamoDB Developer Guide, "Key condition expressions for the Query operation"; API
Reference, Query, KeyConditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.core.values import AttributeValue

Equality = tuple[str, AttributeValue]
"""An attribute's name and the one value it must have."""

_CHARACTERS_MAX: Final = 4096
_TOKEN: Final = re.compile(
    r"[ \t\r\n]*([#:]?[A-Za-z_][A-Za-z0-9_]*|[#:][A-Za-z0-9_]+|<=|>=|[=<>(),])"
)
_NAME: Final = re.compile(r"#[A-Za-z0-9_]+|[A-Za-z][A-Za-z0-9_]*")
_COMPARISONS: Final = frozenset({"=", "<", "<=", ">", ">="})
_KEYWORDS: Final = frozenset({"AND", "BETWEEN", "OR", "NOT", "IN"})
_BEGINS_WITH: Final = "begins_with"
_NESTING_MAX: Final = 8


class ConditionUnclear(ValueError):
    """Only DynamoDB can judge this condition: let upstream answer."""


def read_key_condition(
    expression: str, names: Mapping[str, object], values: Mapping[str, Any]
) -> list[Equality]:
    """Return the equalities of a KeyConditionExpression.

    Args:
        expression: terms joined by AND, in parentheses or not, e.g. `pk = :p AND #s > :s`.
        names: ExpressionAttributeNames, empty when not given.
        values: ExpressionAttributeValues, empty when not given.

    Raises:
        ConditionUnclear: anything that is not certainly such a conjunction.
    """
    parser = _Parser(expression, names, values)
    parser.condition(_NESTING_MAX)
    if parser.tokens:
        raise ConditionUnclear("text after the condition")
    return parser.equalities


def read_key_conditions(conditions: Mapping[str, Any]) -> list[Equality]:
    """Return the equalities of the older KeyConditions.

    Raises:
        ConditionUnclear: a condition of a shape that is not certainly right.
    """
    equalities: list[Equality] = []
    for name, condition in conditions.items():
        match condition:
            case {"ComparisonOperator": "EQ", "AttributeValueList": [dict(value)], **rest}:
                if rest:
                    raise ConditionUnclear("an unknown member")
                equalities.append((name, value))
            case {"ComparisonOperator": str(), "AttributeValueList": list()}:
                continue
            case _:
                raise ConditionUnclear("not a condition")
    return equalities


class _Parser:
    """Takes the tokens of one expression from the front."""

    def __init__(
        self, expression: str, names: Mapping[str, object], values: Mapping[str, Any]
    ) -> None:
        self._names = names
        self._values = values
        self.tokens = _tokens(expression)
        self.equalities: list[Equality] = []

    def condition(self, levels_left: int) -> None:
        """Take terms joined by AND."""
        if levels_left == 0:
            raise ConditionUnclear("too many parentheses")
        self._term(levels_left)
        while self.tokens and self.tokens[0].upper() == "AND":
            self._next()
            self._term(levels_left)

    def _term(self, levels_left: int) -> None:
        first = self._next()
        if first == "(":
            self.condition(levels_left - 1)
            self._expect(")")
        elif first == _BEGINS_WITH and self.tokens[:1] == ["("]:
            self._expect("(")
            self._name(self._next())
            self._expect(",")
            self._value()
            self._expect(")")
        else:
            self._comparison(self._name(first))

    def _comparison(self, name: str) -> None:
        operator = self._next()
        if operator.upper() == "BETWEEN":
            self._value()
            if self._next().upper() != "AND":
                raise ConditionUnclear("BETWEEN without AND")
            self._value()
        elif operator in _COMPARISONS:
            value = self._value()
            if operator == "=":
                self.equalities.append((name, value))
        else:
            raise ConditionUnclear("not an operator")

    def _name(self, token: str) -> str:
        if _NAME.fullmatch(token) is None or token.upper() in _KEYWORDS:
            raise ConditionUnclear("not a name")
        meant = self._names.get(token) if token.startswith("#") else token
        if not isinstance(meant, str) or not meant:
            raise ConditionUnclear("undefined placeholder")
        return meant

    def _value(self) -> AttributeValue:
        token = self._next()
        meant = self._values.get(token) if token.startswith(":") else None
        if not isinstance(meant, dict):
            raise ConditionUnclear("undefined value")
        return meant

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise ConditionUnclear("syntax")

    def _next(self) -> str:
        if not self.tokens:
            raise ConditionUnclear("ends too early")
        return self.tokens.pop(0)


def _tokens(expression: str) -> list[str]:
    if len(expression) > _CHARACTERS_MAX:
        raise ConditionUnclear("expression too long")
    text, at = expression.rstrip(" \t\r\n"), 0
    found: list[str] = []
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ConditionUnclear("not a token")
        found.append(token[1])
        at = token.end()
    return found
