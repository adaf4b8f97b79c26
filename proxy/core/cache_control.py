"""Parses what one read asks of the cache, from its `X-Dynaside-Cache` field, once.

The field is the proxy's own and ends here. Cache-Control says similar things, but browsers and
intermediaries send it by themselves, for whole pages: obeying it would empty the cache by accident.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected
from proxy.core.request import Headers

FIELD: Final = "X-Dynaside-Cache"

_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,12}(?:\.[0-9]{1,12})?)")
_MEANT: Final = (
    f"dynaside: {FIELD} takes bypass, or refresh, or one or both of only-if-cached and"
    " max-age=SECONDS; nothing was sent"
)


class Wish(Enum):
    """Where an answer may come from."""

    EITHER = "either"  # the store, or upstream where the store cannot answer
    BYPASS = "bypass"  # upstream; the store has no part in it
    REFRESH = "refresh"  # upstream, and the store's entry is replaced by what was fetched
    ONLY_IF_CACHED = "only-if-cached"  # the store; upstream is not asked


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What one read asks of the cache.

    Args:
        wish: where the answer may come from.
        age_s_max: entries of this age, in seconds, or older do not answer; infinite for no limit.
            It bounds what is accepted, not what is stored.
    """

    wish: Wish = Wish.EITHER
    age_s_max: float = math.inf

    @property
    def bypass(self) -> bool:
        """Whether the store has no part in the answer."""
        return self.wish is Wish.BYPASS

    @property
    def refresh(self) -> bool:
        """Whether the answer must be fetched now, whatever the store holds."""
        return self.wish is Wish.REFRESH

    @property
    def only_if_cached(self) -> bool:
        """Whether upstream must not be asked."""
        return self.wish is Wish.ONLY_IF_CACHED


UNCONTROLLED: Final = CacheControl()
"""What a read without the field asks: nothing."""


def parse_cache_control(headers: Headers) -> CacheControl:
    """Read the field of a request; several fields count as one list.

    Raises:
        RequestRejected: a directive is unknown, repeated or contradicts another one. Guessing
            could answer from an entry that the caller meant to avoid.

    Source: RFC 9110 §5.3 (lists) and RFC 9111 §5.2.1 (the words, spelled in any case).
    """
    texts = [text for name, text in headers if name.lower() == FIELD.lower()]
    if not texts:
        return UNCONTROLLED
    words = [word.strip(" \t").lower() for text in texts for word in text.split(",")]
    ages = [found for word in words if (found := _MAX_AGE.fullmatch(word))]
    wishes = [word for word in words if not word.startswith("max-age")]
    age_s_max = float(ages[0][1]) if ages else math.inf
    if len(ages) + len(wishes) != len(words) or len(ages) > 1:
        raise _refusal()
    match wishes:
        case []:
            return CacheControl(age_s_max=age_s_max)
        case ["only-if-cached"]:
            return CacheControl(Wish.ONLY_IF_CACHED, age_s_max)
        case ["bypass"] if not ages:
            return CacheControl(Wish.BYPASS)
        case ["refresh"] if not ages:
            return CacheControl(Wish.REFRESH)
        case _:
            raise _refusal()


def _refusal() -> RequestRejected:
    return RequestRejected(VALIDATION_EXCEPTION, _MEANT)
