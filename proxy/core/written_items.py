"""Finds every item that one request may write: a single write, a batch, a transaction, PartiQL.

What is unclear about a part of a request becomes a write without key and item, which stands for
its whole table. Source: DynamoDB API Reference of each operation named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected
from proxy.core.operations import WRITES, ItemWrite, item_write, load_write, plain_table_name
from proxy.core.partiql import StatementUnclear, read_statement

PIECEMEAL: Final = frozenset({"BatchWriteItem", "BatchExecuteStatement"})
"""Operations that may apply some of their writes and not others."""
_STATEMENTS: Final = {
    "BatchExecuteStatement": "Statements",
    "ExecuteTransaction": "TransactStatements",
}
_PARTIQL: Final = frozenset({"ExecuteStatement", *_STATEMENTS})
ITEM_WRITES: Final = WRITES | PIECEMEAL | _PARTIQL | {"TransactWriteItems"}
"""Operations that write items, as opposed to tables."""
_ACTIONS: Final = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
_CHECK: Final = "ConditionCheck"


def written_items(operation: str, body: bytes) -> tuple[ItemWrite, ...]:
    """List what a request may write, in its order; empty when it only reads or names no table.

    Args:
        operation: one of ITEM_WRITES.
        body: the request's body, not compressed.

    Raises:
        RequestRejected: the body is not one unambiguous JSON object, or a PartiQL statement is
            not understood: it must not reach upstream without a fence.
    """
    return tuple(_writes(operation, load_write(body)))


def _writes(operation: str, request: dict[str, Any]) -> Iterator[ItemWrite]:
    if operation in WRITES:
        write = item_write(operation, request)
        if write is not None:
            yield write
    elif operation == "BatchWriteItem":
        yield from _batch(request.get("RequestItems"))
    elif operation == "TransactWriteItems":
        for action in _objects(request.get("TransactItems")):
            yield from _transacted(action)
    elif operation == "ExecuteStatement":
        yield from _stated(operation, request)
    else:
        for statement in _objects(request.get(_STATEMENTS[operation])):
            yield from _stated(operation, statement)


def _batch(request_items: object) -> Iterator[ItemWrite]:
    for named, writes in request_items.items() if isinstance(request_items, dict) else ():
        table = plain_table_name(named)
        if table is None:
            continue  # DynamoDB refuses the request
        # A list without writes, or no list, is refused as well; fenced to be sure.
        for write in writes if isinstance(writes, list) and writes else [None]:
            match write:
                case {"PutRequest": {"Item": dict(item)}, **others} if not others:
                    yield ItemWrite("PutItem", table, item=item)
                case {"DeleteRequest": {"Key": dict(key)}, **others} if not others:
                    yield ItemWrite("DeleteItem", table, key=key)
                case _:
                    yield ItemWrite("BatchWriteItem", table)


def _transacted(action: dict[str, Any]) -> Iterator[ItemWrite]:
    for kind, members in action.items():
        if kind == _CHECK or not isinstance(members, dict):
            continue  # it writes nothing, or DynamoDB refuses the request
        write: ItemWrite | None = None
        if kind in _ACTIONS:
            write = item_write(_ACTIONS[kind], members)
        elif (table := plain_table_name(members.get("TableName"))) is not None:
            write = ItemWrite("TransactWriteItems", table)  # a kind of tomorrow
        if write is not None:
            yield write


def _stated(operation: str, member: dict[str, Any]) -> Iterator[ItemWrite]:
    text = member.get("Statement")
    if not isinstance(text, str):
        return  # DynamoDB refuses the request
    try:
        statement = read_statement(text, member.get("Parameters"))
    except StatementUnclear:
        raise RequestRejected(
            VALIDATION_EXCEPTION, "dynaside cannot tell which table this statement writes to"
        ) from None
    if statement is None:
        return
    for named in statement.tables:
        table = plain_table_name(named)
        if table is not None:
            yield ItemWrite(operation, table, item=statement.attributes)


def _objects(content: object) -> list[dict[str, Any]]:
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
