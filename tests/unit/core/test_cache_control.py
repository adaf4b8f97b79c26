"""Claims about the `X-Dynaside-Cache` field: what each spelling asks, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache_control import (
    FIELD,
    UNCONTROLLED,
    CacheControl,
    Wish,
    parse_cache_control,
)
from proxy.core.errors import VALIDATION_EXCEPTION, RequestRejected


def parsed(*texts: str) -> CacheControl:
    """Parse a request with one field for each text."""
    return parse_cache_control(tuple((FIELD, text) for text in texts))


def test_request_without_the_field_asks_nothing() -> None:
    """Cache-Control, which others send by themselves, is not the field."""
    assert parse_cache_control((("Cache-Control", "no-cache"), ("X", "bypass"))) is UNCONTROLLED
    assert CacheControl(Wish.EITHER, math.inf) == UNCONTROLLED


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ("bypass", CacheControl(Wish.BYPASS)),
        ("refresh", CacheControl(Wish.REFRESH)),
        ("only-if-cached", CacheControl(Wish.ONLY_IF_CACHED)),
        ("max-age=5", CacheControl(age_s_max=5)),
        ("max-age=0", CacheControl(age_s_max=0)),
        ("max-age=0.25", CacheControl(age_s_max=0.25)),
        ("only-if-cached, max-age=5", CacheControl(Wish.ONLY_IF_CACHED, 5)),
        ("max-age=5,only-if-cached", CacheControl(Wish.ONLY_IF_CACHED, 5)),
        (" Only-If-Cached\t", CacheControl(Wish.ONLY_IF_CACHED)),
        ("MAX-AGE=007", CacheControl(age_s_max=7)),
    ],
)
def test_directive_is_understood(text: str, control: CacheControl) -> None:
    """Each word, in any case, and the one combination that makes sense, in any order."""
    assert parsed(text) == control


def test_fields_count_as_one_list_and_names_have_no_case() -> None:
    """Two fields say the same as one with a comma."""
    headers = (("x-dynaside-cache", "max-age=5"), ("X-DYNASIDE-CACHE", "only-if-cached"))
    assert parse_cache_control(headers) == CacheControl(Wish.ONLY_IF_CACHED, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bypass,",
        "no-cache",
        "bypass refresh",
        "bypass, refresh",
        "bypass, max-age=5",
        "refresh, max-age=5",
        "refresh, only-if-cached",
        "bypass, bypass",
        "only-if-cached, only-if-cached",
        "max-age=5, max-age=5",
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=+1",
        "max-age=1e3",
        "max-age=.5",
        "max-age=5.",
        "max-age= 5",
        'max-age="5"',
        "max-age=nan",
        "max-age=inf",
        "max-age=1_0",
        "max-age=٣",
        "max-age=1234567890123",
        "bypass\x00",
        "bypass\udcff",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """An unknown, repeated or contradictory directive is the client's to correct."""
    with pytest.raises(RequestRejected, match=FIELD) as refused:
        parsed(text)
    assert (refused.value.error_type, refused.value.status) == (VALIDATION_EXCEPTION, 400)


@pytest.mark.parametrize("texts", [("bypass", "refresh"), ("max-age=1", "max-age=2"), ("", "")])
def test_contradiction_between_fields_is_refused(texts: tuple[str, str]) -> None:
    """No field wins over another."""
    with pytest.raises(RequestRejected):
        parsed(*texts)


@given(st.text() | st.text("bypasrefhonly-icd,mx=0123456789. "))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Nothing else is ever raised, and a limit is a number of seconds."""
    try:
        control = parsed(text)
    except RequestRejected:
        return
    assert control.age_s_max >= 0


def test_one_wish_at_a_time() -> None:
    """A value answers exactly one of the questions that flows ask, or none."""
    for wish in Wish:
        control = CacheControl(wish)
        asked = [control.bypass, control.refresh, control.only_if_cached]
        assert asked.count(True) == (wish is not Wish.EITHER)
