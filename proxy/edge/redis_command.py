"""Makes the commands that we send to the store, and tells its refusals from its replies."""

from __future__ import annotations

from typing import Any, Final

import redis.exceptions

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import CacheKey
from proxy.edge.scripts import STEPS, load_script

Command = tuple[bytes | str | int | float, ...]
Replies = list[Any]

_ERRORS: Final[dict[str, type[redis.exceptions.ResponseError]]] = {
    "ASK": redis.exceptions.AskError,
    "MOVED": redis.exceptions.MovedError,
    "NOSCRIPT": redis.exceptions.NoScriptError,
}


def reply_error(text: str) -> redis.exceptions.ResponseError:
    """Return the error that a server's reply tells of; only those with a class that we tell apart.

    Redirections carry where to go instead of their first word.
    """
    word, _, rest = text.partition(" ")
    try:
        return _ERRORS[word](rest)
    except (KeyError, ValueError):  # another error, or a redirection that leads nowhere
        return redis.exceptions.ResponseError(text)


def step_command(step: str, cache_key: CacheKey, *arguments: bytes | int | str) -> Command:
    """Return the command that runs one step on one record."""
    return ("EVALSHA", load_script(step).sha, 1, cache_key, *arguments)


def with_text(command: Command) -> Command:
    """Return a step's command with the whole script in it, for a store that has lost it."""
    text = next(load_script(step).text for step in STEPS if load_script(step).sha == command[1])
    return ("EVAL", text, *command[2:])


def checked(replies: Replies) -> Replies:
    """Return replies of which none is an error.

    Raises:
        StoreUnavailable: one of them is; the connection stays good.
    """
    for reply in replies:
        if isinstance(reply, redis.exceptions.RedisError):
            reason = f"the store refused: {str(reply)[:80]}"
            raise StoreUnavailable(StoreFailure.REFUSED, reason)
    return replies


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, as scripts take them."""
    return round(seconds * 1000)
