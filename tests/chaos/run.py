"""One run: rounds of trouble, each followed by healing, silence, a last look, and judgement."""

from __future__ import annotations

import asyncio
import platform
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from proxy.version import VERSION
from tests.chaos.clients import Clients
from tests.chaos.faults import strike
from tests.chaos.judge import Bounds, Violation, judge
from tests.chaos.profiles import MARKER_S, Profile, Setting
from tests.chaos.recording import assemble
from tests.chaos.report import Report, Round
from tests.chaos.stores import TOPOLOGIES
from tests.chaos.trouble import Trouble
from tests.chaos.world import World, running_world
from tests.sim.history import History, Kind
from tests.sim.simulation import WRITES
from tests.support.redis_server import server_binary

ROOT: Final = Path(__file__).parents[2]
ROUND_S: Final = 10.0
"""Long enough for faults that outlive a marker, short enough that most rounds have few kinds."""

ROUND_S_MIN: Final = 2.0
KINDS_MAX: Final = 4
WRITE_KINDS_MAX: Final = 4
ITEMS: Final = (1, 2, 6)
PACES_S: Final = (0.3, 1.0, 2.5)
"""Mean times between faults."""

WAITED_OUT_S: Final = 10.0
"""Entries that live no longer than this are waited for, before the last look."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Args:
        profile: settings, faults and claims.
        seed: draws everything but the machine's own timing.
        for_s: about how long, healing included.
        topology: name of the store's.
        server: `valkey` or `redis`.
    """

    profile: Profile
    seed: int
    for_s: float = 60.0
    topology: str = "single"
    server: str = "valkey"


async def play(plan: Plan, tell: Callable[[str], None]) -> Report:
    """Run a plan and return its report.

    Args:
        plan: what to run.
        tell: takes a line for each thing that happens.

    Raises:
        EngineError: something would not start, or a proxy does not recover.
    """
    chances = random.Random(plan.seed)
    drawn = {name: chances.choice(values) for name, values in plan.profile.settings.items()}
    binary = server_binary(plan.server)
    store = TOPOLOGIES[plan.topology](binary)
    report = Report(_about(plan, drawn, binary))
    began_s = time.monotonic()
    seed, readers = f"{plan.seed}/upstream", plan.profile.readers
    async with running_world(store, drawn, seed=seed, readers=readers) as world:
        run = _Run(plan, world, report, tell)
        while (left_s := plan.for_s - (time.monotonic() - began_s)) > 0 or not report.rounds:
            number = len(report.rounds)
            await run.round(number, max(ROUND_S_MIN, min(ROUND_S, left_s - run.silence_s)))
    report.about["duration_s"] = round(time.monotonic() - began_s, 1)
    return report


class _Run:
    def __init__(
        self, plan: Plan, world: World, report: Report, tell: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._world = world
        self._report = report
        self._tell = tell
        self._numbers = count(1)
        self._items = count(0)
        self._debts_before = 0.0
        hard_s = plan.profile.hard_s_max
        self.silence_s = max(MARKER_S, hard_s if hard_s <= WAITED_OUT_S else 0.0) + 0.5
        self._hard_s = hard_s

    async def round(self, number: int, for_s: float) -> None:
        """Play one round and judge it."""
        chances = random.Random(f"{self._plan.seed}/{number}")
        setting = self._plan.profile.rounds[number % len(self._plan.profile.rounds)]
        told = Round(setting.name)
        self._report.rounds.append(told)
        writes = chances.sample(WRITES, chances.randint(1, WRITE_KINDS_MAX))
        items = self._new_items(chances)
        self._world.items = items
        clients = Clients(self._world, chances, self._numbers, items, writes, setting)
        self._tell(f"round {number}: {setting.name}")
        self._debts_before = await self._unreached()
        await self._storm(clients, setting, told, for_s=for_s)
        await self._world.healed()
        await asyncio.sleep(self.silence_s)
        quiet_s = time.monotonic()
        await clients.look()
        applied = await self._world.upstream.effects(self._world.session)
        await self._judge(told, setting, clients, assemble(clients.calls, applied, quiet_s=quiet_s))

    async def _storm(
        self, clients: Clients, setting: Setting, told: Round, *, for_s: float
    ) -> None:
        chances = random.Random(clients.chances.random())
        trouble = Trouble(self._world, random.Random(chances.random()), self._logger(told))
        possible = self._world.topology.suffers(setting.faults)
        kinds = chances.sample(possible, min(chances.randint(1, KINDS_MAX), len(possible)))
        if "store flushed" in setting.faults and "store flushed" not in kinds:
            kinds.append("store flushed")
        working = asyncio.ensure_future(clients.work())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_end_after(trouble, for_s))
                tasks.create_task(self._break_things(trouble, kinds, told, chances))
        finally:
            clients.going_home = True
            await working
        await self._world.tidy()

    async def _break_things(
        self, trouble: Trouble, kinds: list[str], told: Round, chances: random.Random
    ) -> None:
        pace_s = chances.choice(PACES_S)

        async def hit(name: str) -> None:
            if await strike(name, trouble):
                told.struck[name] += 1

        async with asyncio.TaskGroup() as tasks:
            while kinds:
                await trouble.last(chances.expovariate(1 / pace_s))
                if trouble.over.is_set():
                    return
                tasks.create_task(hit(chances.choice(kinds)))

    async def _judge(
        self, told: Round, setting: Setting, clients: Clients, history: History
    ) -> None:
        world, claims = self._world, setting.claims
        if setting.claims_unreached is not None and await self._unreached() > self._debts_before:
            claims = setting.claims_unreached
            self._tell("  a write could not reach the store in time: judged by less")
        told.claims = {claim.guarantee: claim.words for claim in claims}
        told.violations = judge(history, claims, Bounds(MARKER_S, self._hard_s, tuple(world.stops)))
        told.outcomes = clients.outcomes
        told.reads = sum(call.value is not None for call in history.calls)
        told.writes = sum(call.acknowledged for call in history.calls if call.kind is Kind.WRITE)
        for ended in world.ended:
            told.violations.append(Violation("alive", ended))
        world.ended.clear()
        world.stops.clear()
        broken = await world.counted("dynaside_invariant_violations_total")
        if broken:
            told.violations.append(Violation("alive", f"{broken:g} invariants do not hold"))
        if await world.counted("dynaside_stream_degraded"):
            told.violations.append(Violation("alive", "a stream's lag stays over its bound"))
        found = sum(not each.excused for each in told.violations)
        self._tell(f"  {told.reads} reads, {told.writes} writes, {found} violations")

    async def _unreached(self) -> float:
        """Count the writes whose begin or end did not reach the store when it should have."""
        return await self._world.counted("dynaside_fence_ends_total", 'result="debt"')

    def _new_items(self, chances: random.Random) -> range:
        first = next(self._items) * 100
        return range(first, first + chances.choice(ITEMS))

    def _logger(self, told: Round) -> Callable[[str], None]:
        def tell(line: str) -> None:
            told.log.append(f"{time.monotonic():10.4f} {line}")
            self._tell("  " + line)

        return tell


async def _end_after(trouble: Trouble, for_s: float) -> None:
    await asyncio.sleep(for_s)
    trouble.over.set()


def _about(plan: Plan, drawn: dict[str, object], binary: Path) -> dict[str, Any]:
    return {
        "seed": plan.seed,
        "profile": plan.profile.name,
        "topology": plan.topology,
        "commit": _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "version": VERSION,
        "store": _said(str(binary), "--version"),
        "python": platform.python_version(),
        "settings": drawn,
    }


def _said(*command: str) -> str:
    """Return the first line of what a command prints, "unknown" when it cannot."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.stdout.split("\n", 1)[0].strip()
