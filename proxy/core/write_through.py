"""Decides whether a write's result is known so well that it may become the entry."""

from __future__ import annotations

from typing import Final

from proxy.core.attributes import is_plain_value
from proxy.core.json_text import compact
from proxy.core.operations import ItemWrite
from proxy.core.responses import EMPTY_BODY, FetchedBody, item_text

_ALL_NEW: Final = "ALL_NEW"


def item_after(write: ItemWrite, reply_body: bytes) -> FetchedBody | None:
    """Return the item as the next GetItem would show it, or None when that is not sure.

    Args:
        write: an accepted write.
        reply_body: upstream's 200 answer to it.

    What is written is not always what is read back: DynamoDB re-spells numbers (`1.0` → `1`) and
    orders sets as it likes. So a PutItem counts only when every name and value is plain; an
    UpdateItem only when its answer carries the whole new item.
    """
    match write.operation:
        case "DeleteItem":
            return FetchedBody(EMPTY_BODY, None, None)
        case "PutItem" if write.item is not None:
            if not is_plain_value({"M": write.item}):
                return None
            return FetchedBody(b'{"Item":' + compact(write.item) + b"}", write.item, None)
        case "UpdateItem" if write.return_values == _ALL_NEW:
            found = item_text(reply_body, "Attributes")
            if found is None:
                return None
            item, spelled = found
            return FetchedBody(b'{"Item":' + spelled + b"}", item, None)
        case _:
            return None
