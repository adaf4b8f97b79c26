"""Claims about `proxy.configuration.tables`."""

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.configuration.tables import Table, TableRules, explicit, resolve_policy
from proxy.core.policy import QueryPolicy, TablePolicy
from proxy.core.values import Level, Mode


def test_rules_are_those_of_table_policy_with_its_defaults() -> None:
    """Every field of TablePolicy can be set and has the same default here."""
    assert TableRules().model_dump() == dataclasses.asdict(TablePolicy())
    assert resolve_policy(TableRules()) == TablePolicy()


def test_table_overrides_what_it_sets_and_inherits_the_rest() -> None:
    """A table's own rule wins over the defaults', which win over the built-in ones."""
    defaults = TableRules(fresh_ttl_s=10, negative_ttl_s=1)
    policy = resolve_policy(defaults, Table(fresh_ttl_s=20))
    assert (policy.fresh_ttl_s, policy.negative_ttl_s, policy.grace_s) == (20, 1, 30)


@pytest.mark.parametrize(
    ("rules", "fill_consistent", "stale_if_error_s"),
    [
        ({"level": "eventual"}, False, 60),
        ({"level": "eventual", "fill_consistent": True}, True, 60),
        ({"level": "eventual", "stale_if_error_s": 0}, False, 0),
        ({"level": "session"}, True, 0),
        ({"level": "strict"}, True, 0),
    ],
)
def test_level_decides_what_nobody_set(
    rules: dict[str, Any], *, fill_consistent: bool, stale_if_error_s: float
) -> None:
    """`eventual` fills without ConsistentRead and answers on errors, unless told otherwise."""
    for policy in (
        resolve_policy(TableRules.model_validate(rules)),
        resolve_policy(TableRules(), Table.model_validate(rules)),
    ):
        assert policy.fill_consistent is fill_consistent
        assert policy.stale_if_error_s == stale_if_error_s


def test_level_of_one_table_does_not_leak_into_another() -> None:
    """What `eventual` implies for the defaults is not inherited by a session table."""
    policy = resolve_policy(TableRules(level=Level.EVENTUAL), Table(level=Level.SESSION))
    assert policy == TablePolicy()


def test_strict_table_overrules_inherited_staleness() -> None:
    """A strict table serves nothing stale, whatever the defaults say."""
    defaults = TableRules(grace_s=60, stale_if_error_s=60, fill_consistent=False)
    policy = resolve_policy(defaults, Table(level=Level.STRICT))
    assert (policy.grace_s, policy.stale_if_error_s, policy.fill_consistent) == (0, 0, True)


def test_explicit_rules_are_those_that_were_given() -> None:
    """A rule set to its default value counts as set, a key schema is not a rule."""
    assert explicit(Table(grace_s=30.0, key_schema=None)) == {"grace_s": 30.0}


def test_table_inherits_each_rule_about_queries_by_itself() -> None:
    """One rule set for a table leaves the defaults' others as they are; a level changes none."""
    defaults = TableRules.model_validate({"queries": {"enabled": True, "fresh_ttl_s": 9}})
    table = Table.model_validate({"level": "strict", "queries": {"indexes": ["by-date"]}})
    expected = QueryPolicy(enabled=True, fresh_ttl_s=9, indexes=("by-date",))
    assert resolve_policy(defaults, table).queries == expected
    assert resolve_policy(TableRules(), table).queries == QueryPolicy(indexes=("by-date",))
    assert explicit(table) == {"level": Level.STRICT}


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("on", Mode.ON),
        ("off", Mode.OFF),
        ("shadow", Mode.SHADOW),
        (True, Mode.ON),
        (False, Mode.OFF),
    ],
)
def test_mode_is_read_as_yaml_spells_it(given: object, mode: str) -> None:
    """YAML 1.1 reads `on` and `off` as true and false."""
    assert resolve_policy(TableRules.model_validate({"mode": given})).mode is Mode(mode)


@pytest.mark.parametrize("rules", [{"mode": "maybe"}, {"mode": 1}, {"mode_percent": 101}])
def test_mode_that_is_none_is_refused(rules: dict[str, Any]) -> None:
    """So is a share that is none."""
    with pytest.raises(ValidationError):
        TableRules.model_validate(rules)
