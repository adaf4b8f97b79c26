"""The commands of steps, and refusals among replies."""

from __future__ import annotations

import pytest
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.redis_command import checked, milliseconds, reply_error, step_command, with_text
from proxy.edge.scripts import load_script


def test_a_step_is_named_by_its_hash_until_the_store_needs_its_text() -> None:
    """EVALSHA and EVAL, with the same key and arguments."""
    command = step_command("end", CacheKey(b"k"), b"x", 1)
    assert command == ("EVALSHA", load_script("end").sha, 1, b"k", b"x", 1)
    assert with_text(command) == ("EVAL", load_script("end").text, 1, b"k", b"x", 1)


def test_one_refusal_among_replies_is_raised() -> None:
    """With the beginning of what the store said; replies without one come back."""
    assert checked([b"1", None]) == [b"1", None]
    with pytest.raises(StoreUnavailable, match="the store refused: OOM") as raised:
        checked([b"1", ResponseError("OOM command not allowed")])
    assert raised.value.failure is StoreFailure.REFUSED


def test_seconds_become_whole_milliseconds() -> None:
    """Rounded, not cut."""
    assert milliseconds(0.0299999) == 30


def test_errors_that_we_act_on_have_classes_of_their_own() -> None:
    """Redirections say where to; all others keep their text, those that lead nowhere too."""
    moved = reply_error("MOVED 7 10.0.0.1:6379")
    assert isinstance(moved, MovedError)
    assert (moved.slot_id, moved.host, moved.port) == (7, "10.0.0.1", 6379)
    assert type(reply_error("ASK 7 :6379")) is AskError
    assert isinstance(reply_error("NOSCRIPT No matching script."), NoScriptError)
    for text in ("WRONGTYPE Operation", "ERR", "MOVED nowhere"):
        assert type(reply_error(text)) is ResponseError
        assert str(reply_error(text)) == text
