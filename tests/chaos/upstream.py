"""The fake DynamoDB as a process of its own, with weather: faults that come by chance.

`python -m tests.chaos.upstream SEED` prints its endpoint and serves until killed. `POST /_fake`
takes the orders of `FakeUpstream.command` and three more: `weather` sets the chances,
`effects_from` asks for what was applied since, `disturb` does one thing to the table's stream,
where it is possible now. The table has a stream from the beginning; nobody need read it.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from proxy.embedded.process import Child, log_path, new_folder, spawn
from tests.chaos.recording import Applied
from tests.fakes.fake_stream_records import VIEW_TYPES
from tests.fakes.fake_upstream import FakeUpstream, Outcome
from tests.fakes.fake_upstream_script import (
    FAILED,
    FAILED_APPLIED_LATER,
    FAILED_YET_APPLIED,
    HALF_BODY,
    RESET_AFTER,
    RESET_APPLIED_LATER,
    RESET_BEFORE,
    SILENT,
    SILENT_APPLIED_LATER,
    SILENT_YET_APPLIED,
    THROTTLED,
    UNAVAILABLE,
    Effect,
    Fault,
    Received,
    Script,
)
from tests.fakes.fake_upstream_tables import Json, Table
from tests.sim.history import ABSENT
from tests.sim.rig import CALL_HEADER, TABLE

ROOT: Final = Path(__file__).parents[2]
LATE_S: Final = 0.8
"""The longest that a write of unknown outcome takes effect after its reply."""

SLOW_S: Final = 0.3
"""The longest way to DynamoDB and back; with LATE_S still far below a marker's time."""

LAG_S: Final = 0.3
"""How old an eventually consistent read may be."""

OPEN_SHARDS_MAX: Final = 4
REFUSED: Final = ("DescribeStream", "GetShardIterator", "GetRecords")
REFUSALS: Final = ("LimitExceededException", "InternalServerError")
REFUSED_TIMES: Final = 1000
"""More than anybody asks until it relents."""


@dataclass
class Weather:
    """How likely requests go wrong, each from 0 to 1; the rest is served.

    Args:
        ambiguous: 500 or 503, applied or not.
        late: a write of unknown outcome that is applied up to LATE_S after its reply.
        throttled: a refusal.
        silent: no answer, applied or not.
        broken: the connection breaks before, in or after the answer.
        slow: takes up to SLOW_S.
    """

    ambiguous: float = 0.0
    late: float = 0.0
    throttled: float = 0.0
    silent: float = 0.0
    broken: float = 0.0
    slow: float = 0.0


KINDS: Final[dict[str, tuple[Fault, ...]]] = {
    "ambiguous": (FAILED, FAILED_YET_APPLIED, UNAVAILABLE),
    "late": (FAILED_APPLIED_LATER, SILENT_APPLIED_LATER, RESET_APPLIED_LATER),
    "throttled": (THROTTLED,),
    "silent": (SILENT, SILENT_YET_APPLIED),
    "broken": (RESET_BEFORE, RESET_AFTER, HALF_BODY),
}


class WeatherScript(Script):
    """A script whose faults are drawn."""

    def __init__(self, chances: random.Random) -> None:
        super().__init__()
        self.weather = Weather()
        self._chances = chances

    def take_fault(self, received: Received) -> Fault:
        """Return what happens to this request."""
        fate = self._chances.random()
        for name, faults in KINDS.items():
            fate -= getattr(self.weather, name)
            if fate < 0:
                return self._chances.choice(faults)
        return Fault()


class ChaosUpstream(FakeUpstream):
    """The fake upstream, which also notes each write in the order it applies them."""

    def __init__(self, chances: random.Random) -> None:
        super().__init__()
        self._chances = chances
        self._script: WeatherScript = WeatherScript(chances)
        self._by = -1
        self._effects: list[tuple[int, str, float, int]] = []
        self.tables.add(TABLE, pk="S")
        self.tables.applied = self._note
        self.tables.streams.shards_at_first = chances.choice((1, 2))
        self._open_stream()

    def command(self, order: Json) -> Json:
        """Obey one order, see the module; `effects` are in the shape of `Applied`."""
        reply = super().command(order)
        if "weather" in order:
            self._script.weather = Weather(**order["weather"])
        if "disturb" in order:
            self._disturb(order["disturb"])
        if "effects_from" in order:
            reply["effects"] = self._effects[order["effects_from"] :]
        return reply

    async def land_late(self) -> None:
        """Let delayed effects happen, for ever."""
        while True:
            await asyncio.sleep(self._chances.uniform(0.01, LATE_S))
            self.land()
            self.log.clear()  # nobody asks for it here, and a run may be long
            self.tables.streams.calls.clear()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        await self._way()
        return await super()._serve(request)

    async def _answer(
        self, request: web.Request, status: int, body: Json, *, half: bool
    ) -> web.StreamResponse:
        await self._way()
        return await super()._answer(request, status, body, half=half)

    async def _way(self) -> None:
        if self._chances.random() < self._script.weather.slow:
            await asyncio.sleep(self._chances.uniform(0, SLOW_S / 2))

    def _outcome(self, received: Received, fault: Fault) -> Outcome:
        if fault.effect is Effect.LATER and received.operation in REFUSED:
            return 200, {}  # what only reads has no effect, and none later
        return super()._outcome(received, fault)

    def _run(self, received: Received, fault: Fault) -> Outcome:
        self._by = int(received.header(CALL_HEADER) or -1)
        self.tables.lag_s = self._chances.uniform(0, LAG_S)
        return super()._run(received, fault)

    def _disturb(self, how: str) -> None:
        stream = self.tables.stream(TABLE)
        match how:
            case "split" | "roll over" if stream.open_shards:
                shard = self._chances.choice(stream.open_shards)
                few = len(stream.open_shards) < OPEN_SHARDS_MAX
                stream.split(shard) if few and how == "split" else stream.roll_over(shard)
            case "trim" if all(shard.listed for shard in stream.shards.values()):
                # Real ones lose records after a day: by then somebody has begun every shard, and
                # every shard is listed.
                begun = {shard.shard_id for shard in stream.shards.values() if shard.begun}
                stream.trim(shards=begun)
            case "refuse":
                error = self._chances.choice(REFUSALS)
                for operation in REFUSED:
                    self.tables.streams.refuse(operation, error, times=REFUSED_TIMES)
            case "turn on" if stream.status != "ENABLED":
                self._open_stream()

    def _open_stream(self) -> None:
        self.tables.enable_stream(TABLE, self._chances.choice(VIEW_TYPES))

    def _note(self, table: Table, identity: tuple[object, ...], item: Json | None) -> None:
        value = ABSENT if item is None else str(item["v"]["S"])
        at_s = table.histories[identity][-1].at_s
        self._effects.append((int(str(identity[0])), value, at_s, self._by))


class UpstreamProcess:
    """The process, as the run sees it: `endpoint`, its weather, and what it applied."""

    def __init__(self, seed: str) -> None:
        command = [sys.executable, "-m", "tests.chaos.upstream", seed]
        folder = new_folder()
        self.child: Child = spawn(
            "upstream", command, folder=folder, environ={"PYTHONPATH": str(ROOT)}
        )
        self.weather = Weather()
        self._taken = 0

    def wait(self) -> None:
        """Return once it serves."""
        log = log_path(self.child.folder)
        self.child.wait_until(lambda: log.read_text().endswith("\n"))

    @property
    def endpoint(self) -> str:
        """Where it serves."""
        return log_path(self.child.folder).read_text().split("\n")[0]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.endpoint.removeprefix("http://").partition(":")
        return host, int(port)

    async def tell_weather(self, session: aiohttp.ClientSession) -> None:
        """Make `weather` the upstream's."""
        await self._order(session, {"weather": asdict(self.weather)})

    async def disturb(self, session: aiohttp.ClientSession, how: str) -> None:
        """Do one thing to the stream: split, roll over, trim, refuse or turn on."""
        await self._order(session, {"disturb": how})

    async def order_stream(self, session: aiohttp.ClientSession, order: Json) -> None:
        """Give one order about the stream, see `StreamedTables.command`."""
        await self._order(session, {"stream": {"table": TABLE, **order}})

    async def effects(self, session: aiohttp.ClientSession) -> list[Applied]:
        """Return what was applied since this was last asked."""
        reply = await self._order(session, {"effects_from": self._taken})
        self._taken += len(reply["effects"])
        return [Applied(*effect) for effect in reply["effects"]]

    async def _order(self, session: aiohttp.ClientSession, order: Json) -> dict[str, Any]:
        async with session.post(self.endpoint + "/_fake", json=order) as answer:
            reply: dict[str, Any] = await answer.json()
            return reply


async def serve(seed: str) -> None:
    """Serve until killed."""
    async with ChaosUpstream(random.Random(seed)) as upstream:
        sys.stdout.write(upstream.endpoint + "\n")
        sys.stdout.flush()
        await upstream.land_late()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
