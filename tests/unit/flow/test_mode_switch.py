"""Claims about `proxy.flow.mode_switch`, by itself and under the flows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.policy import TablePolicy
from proxy.core.values import BypassReason, Mode, Outcome, TableName, WriteMode
from proxy.flow import mode_switch
from proxy.flow.events import Event, ModeSwitched
from proxy.flow.mode_switch import ModeSwitch
from tests.support.flow_world import TABLE, Proxy, World, key_of, value_of

SETTINGS = {"orders": TablePolicy(fresh_ttl_s=7.0), "users": TablePolicy(mode=Mode.OFF)}
GET = {"TableName": TABLE, "Key": key_of("a")}


def switch(events: list[Event]) -> ModeSwitch:
    """Return one that tells what happened."""
    return ModeSwitch(lambda table: SETTINGS.get(table, TablePolicy()), emit=events.append)


def test_settings_count_until_somebody_switches() -> None:
    """Nothing is copied, nothing is told."""
    events: list[Event] = []
    modes = switch(events)
    assert all(modes.policy_of(table) is policy for table, policy in SETTINGS.items())
    assert (modes.switched, events) == ({}, [])


def test_switch_changes_the_mode_and_nothing_else() -> None:
    """The last one counts, for its table alone, and each is told."""
    events: list[Event] = []
    modes = switch(events)
    assert modes.switch(TABLE, Mode.OFF, 100)
    assert modes.switch(TABLE, Mode.SHADOW, 25)
    expected = replace(SETTINGS["orders"], mode=Mode.SHADOW, mode_percent=25)
    assert modes.policy_of(TABLE) == expected
    assert modes.policy_of("users") is SETTINGS["users"]
    assert modes.switched == {TABLE: expected}
    assert events == [ModeSwitched(TABLE, Mode.OFF, 100), ModeSwitched(TABLE, Mode.SHADOW, 25)]


def test_switched_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused and changes nothing; those that are there can be switched again."""
    monkeypatch.setattr(mode_switch, "TABLES_MAX", 1)
    modes = switch([])
    assert modes.switch(TABLE, Mode.OFF, 100)
    assert not modes.switch(TableName("users"), Mode.ON, 100)
    assert modes.policy_of("users").mode is Mode.OFF
    assert modes.switch(TABLE, Mode.ON, 100)


def switch_to(proxy: Proxy, mode: Mode, percent: float = 100.0) -> None:
    """Switch the one table of a world."""
    world = proxy.world
    world.policy = replace(world.policy, mode=mode, mode_percent=percent)


@pytest.mark.parametrize("write_mode", [WriteMode.INVALIDATE, WriteMode.THROUGH])
@pytest.mark.parametrize("mode", [Mode.OFF, Mode.SHADOW])
@pytest.mark.parametrize("operation", ["put", "update", "delete", "batch_put"])
async def test_table_switched_on_serves_no_entry_from_before_a_write(
    world: World, mode: Mode, write_mode: WriteMode, operation: str
) -> None:
    """Writes are fenced in every mode: an entry filled before the table was off is gone."""
    world.policy = replace(world.policy, write_mode=write_mode)
    world.put_elsewhere("a", "1")
    reader, writer = world.proxy(), world.proxy()
    await reader.get("a")
    assert (await reader.get("a")).outcome is Outcome.HIT
    switch_to(reader, mode)
    if operation == "delete":
        await writer.delete("a")
    else:
        await getattr(writer, operation)("a", "2")
    switch_to(reader, Mode.ON)
    assert value_of(await reader.get("a")) == world.newest("a")


async def test_entry_nobody_wrote_to_serves_after_off_and_on(world: World) -> None:
    """Switching off and on again does not empty the cache."""
    world.put_elsewhere("a", "1")
    proxy = world.proxy()
    await proxy.ask("GetItem", GET)
    switch_to(proxy, Mode.OFF)
    assert (await proxy.ask("GetItem", GET)).reason is BypassReason.TABLE_OFF
    switch_to(proxy, Mode.ON, 0)
    assert (await proxy.ask("GetItem", GET)).reason is BypassReason.TABLE_OFF
    switch_to(proxy, Mode.ON)
    assert (await proxy.ask("GetItem", GET)).outcome is Outcome.HIT
