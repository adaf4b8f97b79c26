"""Short runs: the guarantees hold, and a run whose proxies do not invalidate is noticed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.chaos.__main__ import main
from tests.chaos.clients import Clients
from tests.chaos.faults import NAMES, strike
from tests.chaos.judge import LINEARIZABLE, SEEN_IN_TIME, SETTLED
from tests.chaos.profiles import (
    LONG_LIVED,
    PROFILES,
    QUIET_HABITS,
    STRANGERS,
    STREAMS,
    TIMES,
    Profile,
    Setting,
)
from tests.chaos.run import Plan, play
from tests.chaos.store_faults import STORE_FAULTS
from tests.chaos.stores import TOPOLOGIES
from tests.chaos.topologies import FAULTS_OF_ALL, FAULTS_OF_CLUSTER, FAULTS_OF_REPLICATED
from tests.chaos.trouble import Trouble
from tests.chaos.world import running_world
from tests.support.redis_server import server_binary

pytestmark = pytest.mark.store

SEEDS = {"single": "3", "sentinel": "3", "cluster": "3"}
STREAM_SEED = "3"
QUICK = {"store.quarantine_s": 0, "fence.marker_s": 2.0, "fence.tombstone_s": 2.0}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_strict_holds_while_everything_breaks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command runs three proxies and faults of one seed, finds nothing, and reports."""
    file = tmp_path / "report.json"
    status = main(
        ["--topology", name, "--seed", SEEDS[name], "--seconds", "12", "--json", str(file)]
    )
    told = capsys.readouterr()
    assert status == 0, told
    assert "violations: 0" in told.out
    report = json.loads(file.read_text())
    assert report["about"]["profile"] == "strict-through"
    assert {row["topology"] for row in report["table"]} == {name}
    # Some hundreds, of which a busy machine leaves a part: enough that silence means something.
    assert sum(one["reads"] for one in report["rounds"]) > 50, told.out
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


def test_writes_past_every_proxy_are_seen_while_the_stream_breaks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """G10 holds for proxies that share the shards of a stream."""
    status = main(["--profile", "streams-invalidate", "--seed", STREAM_SEED, "--seconds", "12"])
    told = capsys.readouterr()
    assert status == 0, told
    assert "stream: " in told.err


async def test_streams_that_nobody_reads_are_noticed() -> None:
    """Where nobody reads and no table degrades, strangers' writes stay unseen: it must fail."""
    unread = Profile(
        "unread",
        {
            **TIMES,
            **LONG_LIVED,
            **STREAMS,
            "streams.reads": (False,),
            "streams.over_lag": ("ignore",),
            "store.quarantine_s": (0.0,),
        },
        (
            Setting(
                "calm",
                (),
                (SEEN_IN_TIME, SETTLED),
                strangers=STRANGERS,
                habits=QUIET_HABITS[:1],
            ),
        ),
    )
    report = await play(Plan(unread, seed=2, for_s=1.0), lambda _: None)
    assert {each.guarantee for each in report.violations} >= {"G10", "settled"}


async def test_every_fault_mends_what_it_breaks() -> None:
    """Each fault once, as short as it can be; afterwards every proxy serves and answers."""
    # Twice, so that each also meets a primary that was a replica once.
    possible = TOPOLOGIES["single"](server_binary("valkey")).suffers(NAMES)
    await strike_and_look("single", [*possible, *reversed(possible)])


@pytest.mark.parametrize("name", ["sentinel", "cluster"])
async def test_stores_that_look_after_themselves_recover(name: str) -> None:
    """Each way to lose a primary, or a slot, once: afterwards every proxy serves and answers."""
    faults = ["store link cut", "store failed over", "store killed", "store handed over"]
    await strike_and_look(name, faults + ["store slot moved"] * (name == "cluster"))


async def strike_and_look(name: str, faults: list[str]) -> None:
    """Let faults happen, one after the other, and read through every proxy."""
    lines: list[str] = []
    settings = {name: values[0] for name, values in {**TIMES, **STREAMS}.items()} | QUICK
    store = TOPOLOGIES[name](server_binary("valkey"))
    async with running_world(store, settings, seed="1") as world:
        trouble = Trouble(world, random.Random(1), lines.append)
        trouble.over.set()
        for fault in faults:
            told = len(lines)
            assert await strike(fault, trouble), lines
            assert len(lines) > told, f"{fault} is not in the log"
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


def test_every_fault_of_the_store_is_suffered_by_some_topology() -> None:
    """A topology names faults that exist, and those of a cluster are all there are."""
    assert set(FAULTS_OF_ALL) < set(FAULTS_OF_REPLICATED) < set(FAULTS_OF_CLUSTER)
    assert set(FAULTS_OF_CLUSTER) == set(STORE_FAULTS)
