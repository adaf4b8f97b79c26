"""Which table a name stands for, as upstream tells it: one made anew under the name is another.

Source: DynamoDB API Reference, TableDescription, "TableId: Unique identifier for the table".
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Final

from proxy.core.values import TABLE_ID_BYTES, TableId

NO_TABLE: Final = TableId(b"\xff" * TABLE_ID_BYTES)
"""What a name stands for while there is no such table: all that was cached of it is void."""

_NOT_FOUND: Final = b"ResourceNotFoundException"
_REPLY_BYTES_MAX: Final = 1000


def read_table_id(body: bytes) -> TableId | None:
    """Read a table's identity from a DescribeTable reply; None when it does not tell.

    Engines that know no TableId are taken by name and time of creation.
    """
    try:
        described: dict[str, Any] = json.loads(body)["Table"]
        if (spelled := described.get("TableId")) is not None:
            table_id = bytes.fromhex(spelled.replace("-", ""))
            return TableId(table_id) if len(table_id) == TABLE_ID_BYTES else None
        made = f"{described['TableArn']} {described['CreationDateTime']}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return TableId(blake2b(made.encode(), digest_size=TABLE_ID_BYTES).digest())


def is_no_table(status: int, body: bytes) -> bool:
    """Tell whether upstream refused a request because there is no such table."""
    return status == 400 and _NOT_FOUND in body[:_REPLY_BYTES_MAX]  # noqa: PLR2004
