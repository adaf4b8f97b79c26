"""Decides whether a write's result is known so well that it may become the entry.

An UpdateItem tells its result only if it is asked for ALL_NEW. Where the caller asked for nothing,
the proxy asks in his stead and takes out of the answer what he did not ask for.
"""

from __future__ import annotations

from typing import Final

from proxy.core.attributes import is_plain_value
from proxy.core.json_text import NotJson, compact, members
from proxy.core.operations import ItemWrite
from proxy.core.request import ClientRequest
from proxy.core.responses import EMPTY_BODY, FetchedBody, item_text

ALL_NEW: Final = "ALL_NEW"
_OF_THE_BODY: Final = ("content-encoding", "content-md5", "content-digest", "digest")
_CHECKSUM_PREFIX: Final = "x-amz-checksum-"


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
        case "UpdateItem" if write.return_values == ALL_NEW:
            found = item_text(reply_body, "Attributes")
            if found is None:
                return None
            item, spelled = found
            return FetchedBody(b'{"Item":' + spelled + b"}", item, None)
        case _:
            return None


def asking_for_new_item(request: ClientRequest) -> ClientRequest | None:
    """Return an UpdateItem that asks for ALL_NEW besides, or None where that cannot be done.

    Nothing else in its body is spelled anew. Its answer must not be compressed, since the item is
    taken out of it. None if the caller asked for a part of the item himself, or if a header field
    speaks of the body's bytes.
    """
    names = [name.lower() for name, _ in request.headers]
    if any(name in _OF_THE_BODY or name.startswith(_CHECKSUM_PREFIX) for name in names):
        return None
    try:
        text = request.body.decode()
        parts = members(text)
    except (UnicodeDecodeError, NotJson):
        return None
    asked = [part for part in parts if part.name == "ReturnValues"]
    if not parts or len(asked) > 1:
        return None
    if not asked:
        end = parts[-1].end
        text = f'{text[:end]},"ReturnValues":"{ALL_NEW}"{text[end:]}'
    elif text[asked[0].start : asked[0].end] == '"NONE"':
        text = f'{text[: asked[0].start]}"{ALL_NEW}"{text[asked[0].end :]}'
    else:
        return None
    headers = tuple(field for field in request.headers if field[0].lower() != "accept-encoding")
    return request._replace(headers=headers, body=text.encode())


def without_attributes(reply_body: bytes) -> bytes | None:
    """Return an UpdateItem's answer without its `Attributes`, all else as upstream spelled it.

    Returns:
        None when it is not an answer to an UpdateItem that was asked for ALL_NEW.
    """
    try:
        text = reply_body.decode()
        parts = members(text)
    except (UnicodeDecodeError, NotJson):
        return None
    places = [place for place, part in enumerate(parts) if part.name == "Attributes"]
    if len(places) != 1:
        return None
    (place,) = places
    start, end = text.index('"'), parts[place].end
    if place > 0:
        start = parts[place - 1].end  # the comma goes too
    elif len(parts) > 1:
        end = text.index('"', end)  # only blanks and a comma are before the next name
    else:
        return EMPTY_BODY
    return (text[:start] + text[end:]).encode()
