"""Short runs: the guarantees hold, and a run whose proxies do not invalidate is noticed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.chaos.__main__ import main
from tests.chaos.clients import Clients
from tests.chaos.faults import NAMES, Trouble, strike
from tests.chaos.judge import LINEARIZABLE
from tests.chaos.profiles import PROFILES, TIMES, Profile, Setting
from tests.chaos.run import Plan, play
from tests.chaos.topologies import REFUSED, topology
from tests.chaos.world import running_world
from tests.support.redis_server import server_binary

pytestmark = pytest.mark.store

QUICK = {"store.quarantine_s": 0, "fence.marker_s": 2.0, "fence.tombstone_s": 2.0}


def test_strict_holds_while_everything_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command runs three proxies and faults of one seed, finds nothing, and reports."""
    file = tmp_path / "report.json"
    given = ["--profile", "strict-through", "--seed", "3", "--seconds", "18", "--json", str(file)]
    status = main(given)
    told = capsys.readouterr()
    assert status == 0, told
    assert "violations: 0" in told.out
    report = json.loads(file.read_text())
    assert report["about"]["profile"] == "strict-through"
    assert sum(one["reads"] for one in report["rounds"]) > 200, told.out
    assert any(one["struck"] for one in report["rounds"]), told.out


async def test_proxies_that_do_not_invalidate_are_noticed() -> None:
    """`write_mode: around` leaves old entries in place: judged as if strict, it must fail."""
    around = Profile(
        "around",
        {
            **TIMES,
            "defaults.level": ("session",),
            "defaults.write_mode": ("around",),
            "defaults.fresh_ttl_s": (60.0,),
            "store.quarantine_s": (0.0,),
        },
        (Setting("calm", (), (LINEARIZABLE,), habits=((0.25, 0.0),)),),
    )
    report = await play(Plan(around, seed=1, for_s=1.0), lambda _: None)
    assert report.violations
    assert "G1 VIOLATION" in report.text()
    assert all(violation.lines for violation in report.violations)


async def test_every_fault_mends_what_it_breaks() -> None:
    """Each fault once, as short as it can be; afterwards every proxy serves and answers."""
    lines: list[str] = []
    settings = {name: values[0] for name, values in TIMES.items()} | QUICK
    store = topology("single", server_binary("valkey"))
    async with running_world(store, settings, seed="1") as world:
        trouble = Trouble(world, random.Random(1), lines.append)
        trouble.over.set()
        # Twice, so that each also meets a primary that was a replica once.
        for name in [*NAMES, *reversed(NAMES)]:
            told = len(lines)
            assert await strike(name, trouble), name
            assert len(lines) > told, f"{name} is not in the log"
        await world.healed()
        clients = Clients(world, random.Random(1), numbers=iter(range(99)), items=range(2))
        await clients.look()
        assert all(call.value == "" for call in clients.calls)
        assert not world.ended


def test_every_fault_is_in_some_profile() -> None:
    """No fault is written and never played, and none is named that does not exist."""
    played = {
        fault
        for profile in PROFILES.values()
        for setting in profile.rounds
        for fault in setting.faults
    }
    assert played == set(NAMES)


@pytest.mark.parametrize("name", REFUSED)
def test_a_topology_that_the_product_cannot_use_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says which, why, and what to choose instead."""
    assert main(["--topology", name]) == 2
    assert f"topology {name}: the product has no setting" in capsys.readouterr().err
