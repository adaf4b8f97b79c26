"""Finds the tables that a request may write to when the proxy does not fence its single items.

Batches, transactions, PartiQL and changes to tables themselves fence whole tables: safe for every
spelling, at the price of a colder cache. Source: DynamoDB API Reference of each operation named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected
from proxy.core.json_text import NotJson, load_object
from proxy.core.operations import SERIALIZATION_EXCEPTION, WRITES, plain_table_name
from proxy.core.values import TableName

_BY_TABLE_NAME: Final = frozenset(
    {
        "CreateTable",
        "DeleteTable",
        "UpdateTable",
        "UpdateTimeToLive",
        "UpdateGlobalTable",
        "CreateGlobalTable",
    }
)
_BY_TARGET_TABLE: Final = frozenset({"RestoreTableFromBackup", "RestoreTableToPointInTime"})
_PARTIQL: Final = frozenset({"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"})
ITEM_BATCHES: Final = _PARTIQL | {"BatchWriteItem", "TransactWriteItems"}
"""Operations that write items, as opposed to tables."""
REMAKES: Final = _BY_TABLE_NAME | _BY_TARGET_TABLE | {"ImportTable"}
"""Operations on tables: they may delete one, or make it anew with another key."""
TABLE_WRITES: Final = ITEM_BATCHES | REMAKES
"""Operations whose fence is around whole tables."""
_STATEMENT: Final = re.compile(
    r"""\s*(?:(?P<read>SELECT|EXISTS)\b
    |(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:"(?P<quoted>[^"]+)"|(?P<bare>[A-Za-z0-9_.\-]+)))""",
    re.IGNORECASE | re.VERBOSE,
)


def written_tables(operation: str, body: bytes) -> frozenset[TableName]:
    """Name every table that a request may write to; empty when it only reads or names none.

    Args:
        operation: one of TABLE_WRITES, or of WRITES in the API before 2012.
        body: the request's body, not compressed.

    Raises:
        RequestRejected: the body is not one unambiguous JSON object, or a PartiQL statement is
            not understood: it must not reach upstream without a fence.
    """
    try:
        request, ambiguous = load_object(body)
    except NotJson:
        raise RequestRejected(SERIALIZATION_EXCEPTION) from None
    if ambiguous:
        raise RequestRejected(SERIALIZATION_EXCEPTION, "a member name occurs twice")
    named = (plain_table_name(name) for name in _names(operation, request))
    return frozenset(name for name in named if name is not None)


def _names(operation: str, request: dict[str, Any]) -> Iterator[object]:
    if operation in _BY_TABLE_NAME or operation in WRITES:
        yield request.get("TableName") or request.get("GlobalTableName")
    elif operation in _BY_TARGET_TABLE:
        yield request.get("TargetTableName")
    elif operation == "ImportTable":
        parameters = request.get("TableCreationParameters")
        yield parameters.get("TableName") if isinstance(parameters, dict) else None
    elif operation == "BatchWriteItem":
        items = request.get("RequestItems")
        yield from items if isinstance(items, dict) else ()
    elif operation == "TransactWriteItems":
        for action in _elements(request.get("TransactItems")):
            for written in action.values():
                yield written.get("TableName") if isinstance(written, dict) else None
    else:
        yield from _statement_tables(operation, request)


def _statement_tables(operation: str, request: dict[str, Any]) -> Iterator[str]:
    statements: list[object]
    if operation == "ExecuteStatement":
        statements = [request.get("Statement")]
    else:
        member = "TransactStatements" if operation == "ExecuteTransaction" else "Statements"
        statements = [each.get("Statement") for each in _elements(request.get(member))]
    for statement in statements:
        if not isinstance(statement, str):
            continue  # DynamoDB refuses the request
        found = _STATEMENT.match(statement)
        if found is None:
            raise RequestRejected(
                VALIDATION_EXCEPTION, "dynaside cannot tell which table this statement writes to"
            )
        if not found["read"]:
            yield found["quoted"] or found["bare"]


def _elements(content: object) -> list[dict[str, Any]]:
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
