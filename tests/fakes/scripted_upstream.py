"""The `Upstream` port in-process: real item state, with gates and faults but without sockets.

It shares tables, gates and faults with `FakeUpstream`. Requests go on when their sender has gone,
as at DynamoDB, where a write lands although nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.flow.ports import Clock, UpstreamReply, UpstreamRequest
from tests.fakes.fake_upstream import SCRIPTED
from tests.fakes.fake_upstream_script import (
    Effect,
    Fault,
    Gate,
    Match,
    Received,
    Reply,
    Script,
    Tally,
)
from tests.fakes.fake_upstream_tables import CORAL, VALIDATION, DynamoError, Json
from tests.fakes.streamed_tables import StreamedTables


@dataclass(frozen=True)
class _Canned:
    """An answer that no table gives, and what happens besides."""

    match: Match
    status: int
    body: bytes
    effect: Callable[[], object]


class ScriptedUpstream:
    """DynamoDB as a value.

    Args:
        clock: dates the versions of items, for `tables.lag_s`.

    `tables` holds the items, `sent` every request in order.
    """

    def __init__(self, clock: Clock) -> None:
        self.tables = StreamedTables(clock.monotonic_s, clock.wall_s)
        self.sent: list[UpstreamRequest] = []
        self._script = Script()
        self._refusals: list[tuple[Match, UpstreamFailure]] = []
        self._canned: list[_Canned] = []
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._serving: set[asyncio.Task[UpstreamReply]] = set()

    async def close(self) -> None:
        """End every request that is still being served."""
        for served in self._serving:
            served.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def fail(self, match: Match | str, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` requests that fit go wrong; each fault strikes once."""
        assert fault.reply is not Reply.UNPROCESSED, "batches are not taken apart here"
        self._script.faults += [(_match(match), fault)] * times

    def refuse(self, match: Match | str, failure: UpstreamFailure, *, times: int = 1) -> None:
        """Let the next `times` requests that fit fail before anything is sent."""
        self._refusals += [(_match(match), failure)] * times

    def answer(
        self,
        match: Match | str,
        body: Json | bytes,
        *,
        status: int = 200,
        effect: Callable[[], object] = lambda: None,
    ) -> None:
        """Answer the next request that fits with these bytes, whatever it says."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._canned.append(_Canned(_match(match), status, raw, effect))

    def hold(self, match: Match | str, *, after_effect: bool = False) -> Gate:
        """Hold all requests that fit, before or after they take effect, until released."""
        gate = Gate(_match(match), after_effect=after_effect)
        self._script.gates.append(gate)
        return gate

    def keep_held(self, gate: Gate) -> None:
        """Let requests that come from now on pass a gate; who has reached it stays."""
        self._script.gates.remove(gate)

    def release(self) -> None:
        """Open every gate and take them away."""
        self._script.release()

    def land(self) -> None:
        """Let the delayed effects (`Effect.LATER`) happen now."""
        self._script.land()

    def count(self, operation: str) -> int:
        """Return how many requests of an operation were sent."""
        return self._tallies[operation].total

    async def counted(self, operation: str, total: int) -> None:
        """Wait until that many requests of an operation were sent."""
        await self._tallies[operation].at_least(total)

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Serve one request."""
        received = Received(
            request.operation, request.method, request.target, request.headers, request.body, 0
        )
        self.sent.append(request)
        self._tallies[request.operation].add()
        for refusal in self._refusals:
            if refusal[0].fits(received):
                self._refusals.remove(refusal)
                raise UpstreamFailed(refusal[1], "nothing was sent", maybe_applied=False)
        served = asyncio.create_task(self._serve(received), name="upstream")
        self._serving.add(served)
        served.add_done_callback(self._ended)
        done, _ = await asyncio.wait({served}, timeout=request.timeout_s)
        if not done:
            raise UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)
        return served.result()

    async def _serve(self, received: Received) -> UpstreamReply:
        await self._script.pass_gates(received, after_effect=False)
        fault = self._script.take_fault(received)
        status, body = self._outcome(received, fault)
        await self._script.pass_gates(received, after_effect=True)
        if fault.reply is Reply.SILENT:
            await asyncio.get_running_loop().create_future()
        if fault.reply in {Reply.RESET, Reply.HALF}:
            raise UpstreamFailed(UpstreamFailure.RESET, "the connection broke", maybe_applied=True)
        if fault.reply in SCRIPTED:
            status, error = SCRIPTED[fault.reply]
            body = json.dumps(error).encode()
        headers = (
            ("x-amzn-RequestId", f"UPSTREAM{len(self.sent)}"),
            ("x-amz-crc32", str(zlib.crc32(body))),
            ("Content-Type", "application/x-amz-json-1.0"),
        )
        return UpstreamReply(status, headers, body)

    def _outcome(self, received: Received, fault: Fault) -> tuple[int, bytes]:
        match fault.effect:
            case Effect.NEVER:
                return 200, b"{}"
            case Effect.LATER:
                self._script.delayed.append(lambda: self._run(received))
                return 200, b"{}"
            case Effect.NOW:
                return self._run(received)

    def _run(self, received: Received) -> tuple[int, bytes]:
        for canned in self._canned:
            if canned.match.fits(received):
                self._canned.remove(canned)
                canned.effect()
                return canned.status, canned.body
        try:
            body = json.loads(received.body)
            target = received.header("X-Amz-Target") or received.operation
            return 200, json.dumps(self.tables.serve(target, body)).encode()
        except DynamoError as error:
            return error.status, json.dumps(error.body).encode()
        except KeyError:
            return 400, json.dumps({"__type": VALIDATION}).encode()
        except ValueError:
            return 400, json.dumps({"__type": CORAL + "SerializationException"}).encode()

    def _ended(self, served: asyncio.Task[UpstreamReply]) -> None:
        self._serving.discard(served)
        if not served.cancelled():
            served.exception()  # its sender may have gone


def _match(match: Match | str) -> Match:
    return Match(match) if isinstance(match, str) else match
