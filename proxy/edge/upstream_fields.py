"""Which header fields travel between clients and upstream, and in which form a target does.

Both directions: what speaks of one connection only, or is made anew, stays behind.
"""

from __future__ import annotations

import string
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

from proxy.core.cache_control import FIELD
from proxy.core.request import ClientRequest, Headers, HeaderShape, ShapedHeaders, shaped

HOP_HEADER: Final = "X-Dynaside-Hop"
"""Names every proxy process that a request has passed; seeing our own name again is a loop."""

# RFC 9110 §7.6.1; fields beginning with `proxy-` are dropped as well.
HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
# Made anew for each request we send, or meant for us alone. `Date` takes part in signing where it
# is present.
REMADE: Final = frozenset(
    {"host", "content-length", "expect", "date", FIELD.lower()}
    | {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
)
NOT_REPLIED: Final = frozenset({"content-length"})

SHAPES_MAX: Final = 512
"""How many shapes are remembered; with one more all are forgotten, and learned anew."""

_HOP: Final = HOP_HEADER.lower()
_HARMLESS: Final = frozenset({"keep-alive", "close"})  # they name no field that is not dropped yet


def is_loop(request: ClientRequest, instance_id: str) -> bool:
    """Tell whether a request has already passed the process named `instance_id`.

    Args:
        request: as received.
        instance_id: the name the process gives in `UpstreamOptions`.
    """
    if request.header(_HOP) is None:
        return False
    return any(
        instance_id in (hop.strip() for hop in text.split(","))
        for name, text in request.headers
        if name.lower() == _HOP
    )


def end_to_end(headers: Headers, *, besides: frozenset[str]) -> list[tuple[str, str]]:
    """Return the fields that travel on, in order: none that speaks of one connection only.

    Args:
        headers: the fields as received; names in any case.
        besides: further names to drop, in lower case.

    Source: RFC 9110 §7.6.1. A field with bytes outside UTF-8 cannot be sent and is dropped too.
    """
    return [headers[place] for place in _kept(headers, besides)]


def _kept(headers: Headers, besides: frozenset[str]) -> list[int]:
    kept = [
        place
        for place, (name, text) in enumerate(headers)
        if travels(name, besides) and (text.isascii() or _is_text(text))
    ]
    options = [text.lower() for name, text in headers if name.lower() == "connection"]
    if not _HARMLESS.issuperset(options):
        named = {option.strip() for text in options for option in text.split(",")}
        kept = [place for place in kept if headers[place][0].lower() not in named]
    return kept


class Travelling:
    """Tells which fields travel on, and remembers it for each shape.

    Args:
        besides: of `end_to_end`.
    """

    def __init__(self, besides: frozenset[str]) -> None:
        self._besides = besides
        self._known: dict[HeaderShape, tuple[list[int], HeaderShape]] = {}

    def of(self, headers: Headers) -> Headers:
        """Return what `end_to_end` does; with a shape, where the fields have one."""
        if not isinstance(headers, ShapedHeaders):
            return tuple(end_to_end(headers, besides=self._besides))
        places, shape = self._known.get(headers.shape) or self._learned(headers.shape)
        return shaped([headers[place] for place in places], shape)

    def _learned(self, shape: HeaderShape) -> tuple[list[int], HeaderShape]:
        if len(self._known) >= SHAPES_MAX:
            self._known.clear()
        places = _kept(shape.sample, self._besides)
        kept = HeaderShape(
            tuple(shape.sample[place] for place in places),
            varying=[at for at, place in enumerate(places) if place in shape.varying],
            words=[at for at, place in enumerate(places) if place in shape.words],
        )
        self._known[shape] = places, kept
        return places, kept


@lru_cache(maxsize=1024)
def travels(name: str, besides: frozenset[str]) -> bool:
    """Tell whether a field of this name travels on; see `end_to_end`."""
    lower = name.lower()
    return not (lower in HOP_BY_HOP or lower in besides or lower.startswith("proxy-"))


def origin_form(target: str) -> str:
    """Return a request target as path and query in ASCII, whatever form the client chose.

    Shapes: `/a?b` stays; `http://host/a?b` gives `/a?b`; `*` gives `/`; no fragment remains.
    Source: RFC 9112 §3.2.
    """
    if target == "/":
        return target
    if not target.startswith("/"):
        parts = urlsplit(target)
        path = parts.path if parts.path.startswith("/") else "/"
        target = f"{path}?{parts.query}" if parts.query else path
    without_fragment = target.partition("#")[0]
    return quote(without_fragment.encode(errors="surrogateescape"), safe=string.punctuation)


def _is_text(text: str) -> bool:
    # The server reads bytes outside UTF-8 as lone surrogates, which cannot be encoded again.
    return not any("\ud800" <= character <= "\udfff" for character in text)
