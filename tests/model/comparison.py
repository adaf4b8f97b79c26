"""Runs calls through the scripts of a real store and compares them with the specification's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha1
from typing import Any, Final

from proxy.edge.scripts import STEPS, load_script
from tests.fakes.memory_scripts import Stored
from tests.fakes.record_bytes import AnyBytes, timed, unpack
from tests.model.steps import UNIT_MS, Call, Done, Specification
from tests.support.raw_store import RawStore, Word

_KEY: Final = b"ds:model:{0000}:record"
_CALLS_AT_ONCE: Final = 200


def original(step: str) -> bytes:
    """Return a script as the product sends it."""
    return load_script(step).text


class Comparison:
    """One real store, loaded with the scripts, beside a specification.

    Args:
        store: takes the commands.
        text_of: gives each step's script; other than `original` for mutants.
    """

    def __init__(self, store: RawStore, text_of: Callable[[str], bytes] = original) -> None:
        self._store = store
        self._shas: dict[str, str] = {}
        for step in STEPS:
            text = text_of(step)
            loaded = store.run("SCRIPT", "LOAD", text)
            self._shas[step] = sha1(text, usedforsecurity=False).hexdigest()
            assert loaded == self._shas[step].encode(), f"{step} does not compile: {loaded!r}"

    def differences(self, specification: Specification, *, step: str | None = None) -> list[str]:
        """Return the calls that the specification performed and the store performs otherwise.

        Otherwise: another reply, another record or another time to live.

        Args:
            specification: what was explored.
            step: compare only calls of this one.
        """
        performed = [
            (asked, done)
            for asked, done in specification.performed.items()
            if step in (None, asked[1].step)
        ]
        differences: list[str] = []
        for at in range(0, len(performed), _CALLS_AT_ONCE):
            chunk = dict(performed[at : at + _CALLS_AT_ONCE])
            differences += self._compare(chunk, specification.now_ms)
        return differences

    def _compare(self, chunk: Mapping[tuple[Stored | None, Call], Done], now_ms: int) -> list[str]:
        commands: list[tuple[Word, ...]] = []
        for before, call in chunk:
            commands += _set(before)
            commands.append(("EVALSHA", self._shas[call.step], 1, _KEY, *call.arguments))
            commands += [("GET", _KEY), ("HGETALL", _KEY), ("PEXPIRETIME", _KEY)]
        replies = self._store.pipeline(commands)
        differences = []
        for i, ((before, call), expected) in enumerate(chunk.items()):
            reply, raw, flat, expires_ms = replies[7 * i + 3 : 7 * i + 7]
            after = _stored(raw, flat, expires_ms)
            real = _settled(Done(_without_clock(call, reply), after), now_ms)
            model = _settled(expected, now_ms)
            if real != model:
                differences.append(f"{call}\n  on    {before}\n  store {real}\n  model {model}")
        return differences


def _set(before: Stored | None) -> list[tuple[Word, ...]]:
    """Return three commands that put a record in place."""
    put: tuple[Word, ...] = ("PING",)
    lives: tuple[Word, ...] = ("PING",)
    if before is not None and before.fields is None:
        put = ("SET", _KEY, before.raw)
    elif before is not None and before.fields is not None:
        words = (word for field in before.fields for word in field)
        put = ("HSET", _KEY, b"", before.raw, *words)
    if before is not None and before.expires_ms is not None:
        lives = ("PEXPIREAT", _KEY, before.expires_ms)
    return [("DEL", _KEY), put, lives]


def _stored(raw: Any, flat: Any, expires_ms: int) -> Stored | None:
    """Return the record that replies to GET, HGETALL and PEXPIRETIME show."""
    if raw is None:
        return None
    lives = expires_ms if expires_ms > 0 else None
    if not isinstance(raw, Exception):
        return Stored(raw, lives)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Stored(fields.pop(b""), lives, tuple(sorted(fields.items())))


def _without_clock(call: Call, reply: Any) -> Any:
    match call.step, reply:
        case "lease", [word, detail, int(), *rest]:
            flat = rest[0] if rest else [b"", b""]
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            assert not rest or fields[b""] == detail, "a hit that is not the hash's record"
            del fields[b""]
            return (word.decode(), detail, tuple(sorted(fields.items())) if rest else None)
        case "end", bytes():
            return reply.decode()
        case _:
            return reply


def _settled(done: Done, now_ms: int) -> tuple[Any, Any]:
    """Return what was done with every time in whole units from now."""

    def units(time_ms: int) -> int:
        return (time_ms - now_ms + UNIT_MS // 2) // UNIT_MS

    def record(raw: bytes) -> AnyBytes | bytes:
        parts = unpack(raw)
        return timed(parts, units) if parts is not None else raw

    def reply(given: Any) -> Any:
        match given:
            case ("wait", left_ms, None):
                return ("wait", units(now_ms + left_ms))
            case int() if given > 1:  # how long until a check is due
                return units(now_ms + given)
            case ("hit", raw, fields):
                return ("hit", record(raw), fields)
            case bytes():
                return record(given)
            case _:
                return given

    if done.after is None:
        return reply(done.reply), None
    expires_ms = done.after.expires_ms
    lives = None if expires_ms is None else units(expires_ms)
    return reply(done.reply), (record(done.after.raw), lives, done.after.fields)
