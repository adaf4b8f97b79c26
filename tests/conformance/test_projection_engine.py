"""Projections evaluated here and by a DynamoDB engine must give the same answer.

Accepted difference: the order of attributes and members, which DynamoDB does not define.
The engines differ on paths that conflict (`a.b, a[0]`): these are left to upstream. The second
engine takes the dots in a placeholder's name for a path and sees overlaps that are none: it is
not asked about those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.projection import (
    ProjectionUnclear,
    parse_attributes_to_get,
    parse_projection,
)
from proxy.core.reserved_words import RESERVED_WORDS
from proxy.embedded.dynamodb import RunningDynamoDB

pytestmark = pytest.mark.engine

NAMES = {"#1": "a", "#b": "b", "#dot": "a.b", "#r": "name"}
"""Placeholders: some stand for names that others spell out, some for what only they can name."""

LEAVES = st.sampled_from([{"S": "s"}, {"N": "7"}, {"NULL": True}, {"BOOL": False}, {"SS": ["x"]}])
MEMBER_NAMES = st.sampled_from(["a", "b", "c_1", "a.b", "name"])
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda elements: {"L": elements})
        | st.dictionaries(MEMBER_NAMES, inner, max_size=3).map(lambda members: {"M": members})
    ),
    max_leaves=14,
)
ITEMS = st.dictionaries(MEMBER_NAMES, DOCUMENTS, min_size=1, max_size=5)

WORDS = st.sampled_from(["a", "b", "c_1", *NAMES])
STEPS = WORDS.map(".{}".format) | st.integers(0, 3).map("[{}]".format)
PATHS = st.builds(lambda head, steps: head + "".join(steps), WORDS, st.lists(STEPS, max_size=3))
COMMAS = st.sampled_from([",", ", ", " ,\n\t"])
EXPRESSIONS = st.builds(
    lambda comma, paths: comma.join(paths), COMMAS, st.lists(PATHS, min_size=1, max_size=4)
)


class EngineTable:
    """One table in an engine, with one item at a time."""

    def __init__(self, endpoint: str) -> None:
        self.client: Any = boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.name = f"projection-{uuid4().hex}"
        self.client.create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.client.get_waiter("table_exists").wait(
            TableName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )

    def put(self, item: dict[str, Any]) -> None:
        self.client.put_item(TableName=self.name, Item=item)

    def get(self, **parameters: Any) -> Any:
        """Return the projected item, or the error message when the engine rejects the request."""
        key = {"pk": {"S": "k"}}
        try:
            return self.client.get_item(TableName=self.name, Key=key, **parameters)["Item"]
        except self.client.exceptions.ClientError as error:
            return error.response["Error"]["Message"]


@pytest.fixture(scope="module")
def table(dynalite: RunningDynamoDB) -> Iterator[EngineTable]:
    """Create a table in the engine with the more faithful errors."""
    made = EngineTable(dynalite.endpoint)
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def other_table(dynamodb: RunningDynamoDB) -> Iterator[EngineTable]:
    """Create a table in the second engine."""
    made = EngineTable(dynamodb.endpoint)
    yield made
    made.client.close()


def answers(table: EngineTable, item: dict[str, Any], expression: str) -> tuple[Any, Any]:
    """Return our answer and the engine's."""
    names = {name: NAMES[name] for name in NAMES if name in expression}
    ours = parse_projection(expression, names or None).apply(item)
    parameters: dict[str, Any] = {"ExpressionAttributeNames": names} if names else {}
    return ours, table.get(ProjectionExpression=expression, **parameters)


@settings(max_examples=60, deadline=None)
@given(attributes=ITEMS, expressions=st.lists(EXPRESSIONS, min_size=1, max_size=4))
def test_projection_agrees_with_the_engine(
    table: EngineTable, attributes: dict[str, Any], expressions: list[str]
) -> None:
    """Whatever item and paths: what the proxy answers by itself is what the engine finds."""
    item = attributes | {"pk": {"S": "k"}}
    table.put(item)
    for expression in expressions:
        try:
            ours, theirs = answers(table, item, expression)
        except ProjectionUnclear:
            continue  # upstream answers
        assert ours == theirs, expression


@settings(max_examples=25, deadline=None)
@given(attributes=ITEMS, expressions=st.lists(EXPRESSIONS, min_size=1, max_size=4))
def test_projection_agrees_with_the_second_engine(
    other_table: EngineTable, attributes: dict[str, Any], expressions: list[str]
) -> None:
    """The two engines are one opinion where the proxy answers by itself."""
    item = attributes | {"pk": {"S": "k"}}
    other_table.put(item)
    for expression in (each for each in expressions if "#dot" not in each):
        try:
            ours, theirs = answers(other_table, item, expression)
        except ProjectionUnclear:
            continue  # upstream answers
        assert ours == theirs, expression


@settings(max_examples=20, deadline=None)
@given(attributes=ITEMS, names=st.lists(MEMBER_NAMES, min_size=1, unique=True))
def test_attributes_to_get_agrees_with_the_engine(
    table: EngineTable, attributes: dict[str, Any], names: list[str]
) -> None:
    """AttributesToGet takes names as they are, dots and reserved words included."""
    item = attributes | {"pk": {"S": "k"}}
    table.put(item)
    assert parse_attributes_to_get(names).apply(item) == table.get(AttributesToGet=names)


@pytest.mark.parametrize(
    "expression",
    ["a, a", "a, b, a.b", "a.b[2].b, a.b", "a[0], a[0]", "#1.b, a.b"],
)
def test_overlap_is_an_error_to_the_engine_too(table: EngineTable, expression: str) -> None:
    """What is left to upstream as an overlap is one: the engine says so in its own words."""
    names = {"ExpressionAttributeNames": {"#1": "a"}} if "#" in expression else {}
    with pytest.raises(ProjectionUnclear, match=r"overlap|twice"):
        parse_projection(expression, names.get("ExpressionAttributeNames"))
    message = table.get(ProjectionExpression=expression, **names)
    assert message.startswith("Invalid ProjectionExpression: Two document paths overlap ")


def test_every_reserved_word_is_one_to_the_engine(table: EngineTable) -> None:
    """No reserved word would have been taken as an attribute name."""
    for word in RESERVED_WORDS:
        assert table.get(ProjectionExpression=word.lower()) == (
            "Invalid ProjectionExpression: Attribute name is a reserved keyword; "
            f"reserved keyword: {word.lower()}"
        )
