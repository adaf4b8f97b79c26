"""Finds the tables that an operation on tables themselves may make, change or remove.

Any of their items may change with them, so the fence is around whole tables. Source: DynamoDB API
Reference of each operation named.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.operations import load_write, plain_table_name
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
TABLE_WRITES: Final = _BY_TABLE_NAME | _BY_TARGET_TABLE | {"ImportTable"}
"""Operations on tables: they may delete one, or make it anew with another key."""


def written_tables(operation: str, body: bytes) -> frozenset[TableName]:
    """Name the tables that a request may write to; empty when it names none.

    Args:
        operation: one of TABLE_WRITES.
        body: the request's body, not compressed.

    Raises:
        RequestRejected: the body is not one unambiguous JSON object.
    """
    table = plain_table_name(_named(operation, load_write(body)))
    return frozenset() if table is None else frozenset({table})


def _named(operation: str, request: dict[str, Any]) -> object:
    if operation in _BY_TABLE_NAME:
        return request.get("TableName") or request.get("GlobalTableName")
    if operation in _BY_TARGET_TABLE:
        return request.get("TargetTableName")
    parameters = request.get("TableCreationParameters")
    return parameters.get("TableName") if isinstance(parameters, dict) else None
