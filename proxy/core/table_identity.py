"""Which table a name stands for, as upstream tells it: one made anew under the name is another.

Source: DynamoDB API Reference, TableDescription, "TableId: Unique identifier for the table".
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any, Final

from proxy.core.values import TABLE_ID_BYTES, TableId

NO_TABLE: Final = TableId(b"\xff" * TABLE_ID_BYTES)
"""What a name stands for while there is no such table: all that was cached of it is void."""

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_FOUND: Final = b"ResourceNotFoundException"
_REPLY_BYTES_MAX: Final = 1000


def read_table_id(body: bytes) -> TableId | None:
    """Read a table's identity from a DescribeTable reply; None when it does not tell.

    DynamoDB's is a UUID, of which the 16 bytes are taken. Engines spell theirs otherwise, or know
    none: then it is a hash of what they say, or of name and time of creation.
    """
    try:
        described: dict[str, Any] = json.loads(body)["Table"]
        told = described.get("TableId")
        if told is None:
            told = f"{described['TableArn']} {described['CreationDateTime']}"
        if _UUID.fullmatch(told):
            return TableId(bytes.fromhex(told.replace("-", "")))
        return TableId(blake2b(told.encode(), digest_size=TABLE_ID_BYTES).digest())
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def is_no_table(status: int, body: bytes) -> bool:
    """Tell whether upstream refused a request because there is no such table."""
    return status == 400 and _NOT_FOUND in body[:_REPLY_BYTES_MAX]  # noqa: PLR2004
