"""What goes wrong at the fake upstream, and when: faults, gates and delayed effects.

Nothing here depends on time: a test waits for what happened (`Tally.at_least`, `Gate.reached`)
and releases what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Effect(StrEnum):
    """When a request takes effect."""

    NOW = "now"  # before its reply
    NEVER = "never"
    LATER = "later"  # when the test says `land()`, long after its reply


class Reply(StrEnum):
    """What the client gets."""

    NORMAL = "normal"
    THROTTLE = "throttle"  # 400 ProvisionedThroughputExceededException
    ERROR_500 = "error-500"
    ERROR_503 = "error-503"
    SILENT = "silent"  # nothing, on an open connection
    RESET = "reset"  # nothing, and the connection breaks
    HALF = "half"  # the head and half of the body, then the connection breaks
    UNPROCESSED = "unprocessed"  # batches: every second key or write is left out


@dataclass(frozen=True)
class Fault:
    """One thing gone wrong: what the client sees, and whether the request took effect."""

    reply: Reply = Reply.NORMAL
    effect: Effect = Effect.NOW


THROTTLED = Fault(Reply.THROTTLE, Effect.NEVER)
FAILED = Fault(Reply.ERROR_500, Effect.NEVER)
FAILED_YET_APPLIED = Fault(Reply.ERROR_500, Effect.NOW)
FAILED_APPLIED_LATER = Fault(Reply.ERROR_500, Effect.LATER)
UNAVAILABLE = Fault(Reply.ERROR_503, Effect.NEVER)
SILENT = Fault(Reply.SILENT, Effect.NEVER)
SILENT_YET_APPLIED = Fault(Reply.SILENT, Effect.NOW)
SILENT_APPLIED_LATER = Fault(Reply.SILENT, Effect.LATER)
RESET_BEFORE = Fault(Reply.RESET, Effect.NEVER)
RESET_AFTER = Fault(Reply.RESET, Effect.NOW)
RESET_APPLIED_LATER = Fault(Reply.RESET, Effect.LATER)
HALF_BODY = Fault(Reply.HALF, Effect.NOW)
UNPROCESSED = Fault(Reply.UNPROCESSED, Effect.NOW)


@dataclass(frozen=True)
class Received:
    """One request as it came: `body` raw, `headers` in order."""

    operation: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int  # the same number for requests on the same connection

    def header(self, name: str) -> str | None:
        """Return the first value of a field, whatever the case of its name."""
        found = (value for field_name, value in self.headers if field_name.lower() == name.lower())
        return next(found, None)


@dataclass(frozen=True)
class Match:
    """Which requests are meant; an empty field fits all. `containing` is sought in the raw body."""

    operation: str = ""
    containing: str = ""

    def fits(self, received: Received) -> bool:
        """Tell whether a request is meant."""
        same = self.operation in {"", received.operation}
        return same and self.containing.encode() in received.body


class Tally:
    """A number that only grows and can be waited for."""

    def __init__(self) -> None:
        self.total = 0
        self._grown = asyncio.Event()

    def add(self) -> None:
        """Count one more and wake whoever waits."""
        self.total += 1
        self._grown.set()
        self._grown = asyncio.Event()

    async def at_least(self, total: int) -> None:
        """Wait until `total` is reached."""
        while self.total < total:
            await self._grown.wait()


class Gate:
    """Holds the requests it fits until released; `after_effect` tells on which side of it.

    A held request goes on once released even when its client has gone: as at DynamoDB, where a
    write lands although nobody waits for it any more.
    """

    def __init__(self, match: Match, *, after_effect: bool) -> None:
        self.match = match
        self.after_effect = after_effect
        self._arrived = Tally()
        self._opened = asyncio.Event()

    async def reached(self, total: int = 1) -> None:
        """Wait until that many requests have come to the gate."""
        await self._arrived.at_least(total)

    def release(self) -> None:
        """Let all through, those that come after as well."""
        self._opened.set()

    async def pass_through(self) -> None:
        """Arrive and wait for the release; called by the fake."""
        self._arrived.add()
        await self._opened.wait()


@dataclass
class Script:
    """The faults to come, the gates, and the effects that have not landed yet."""

    faults: list[tuple[Match, Fault]] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    delayed: list[Callable[[], object]] = field(default_factory=list)

    def take_fault(self, received: Received) -> Fault:
        """Return the first fault that fits and strike it out."""
        for place, (match, fault) in enumerate(self.faults):
            if match.fits(received):
                del self.faults[place]
                return fault
        return Fault()

    async def pass_gates(self, received: Received, *, after_effect: bool) -> None:
        """Wait at every gate that fits, on one side of the effect."""
        for gate in tuple(self.gates):
            if gate.after_effect == after_effect and gate.match.fits(received):
                await gate.pass_through()

    def release(self) -> None:
        """Open every gate and take them away."""
        for gate in self.gates:
            gate.release()
        self.gates.clear()

    def land(self) -> None:
        """Let every delayed effect happen now, in the order they came."""
        delayed, self.delayed = self.delayed, []
        for effect in delayed:
            effect()
