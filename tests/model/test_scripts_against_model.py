"""The real scripts do what the executable specification does, in every order of small scenarios.

The scenarios are explored with the specification, which also checks the promise to readers. Each
call that any order of steps ever made, on each record it was made on, is then made on the real
store: same reply, same record, same time to live. A grid adds the pairs that no scenario comes to.
`make model` explores larger scenarios too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import pytest

from proxy.embedded.valkey import RunningStore
from tests.model.comparison import Comparison, original
from tests.model.exploration import explore_all
from tests.model.explorer import explore
from tests.model.grid import explore_grid
from tests.model.script_mutants import MUTANTS, Mutant
from tests.model.steps import Specification
from tests.model.world import Scenario
from tests.support.raw_store import RawStore


def _scenario(readers: str, writers: str, options: str) -> Scenario:
    return Scenario(tuple(readers.split()), tuple(writers.split()), frozenset(options.split()))


# The longest first: they are explored on all processors.
SCENARIOS = [
    _scenario("reader reader", "put table", "warm refuse table-failover"),
    _scenario("reader", "put", "warm crash rcrash refuse expiry"),
    _scenario("reader", "put", "crash rcrash refuse expiry"),
    _scenario("reader reader", "put", "warm crash rcrash refuse expiry"),
    _scenario("reader forcing", "put", "warm crash rcrash refuse expiry"),
    _scenario("reader reader", "table", "warm crash rcrash refuse expiry"),
    _scenario("reader", "put update", "warm crash refuse expiry"),
    _scenario("reader reader", "put put", "warm crash refuse expiry"),
    _scenario("reader reader", "outsider update", "warm refuse flush ackonly"),
    _scenario("reader reader reader", "put", "warm crash rcrash refuse"),
    _scenario("reader reader reader", "put", "crash refuse flush ackonly"),
    _scenario("reader reader reader", "outsider", "warm expiry ackonly"),
    _scenario("reader", "put put put", "warm crash refuse expiry"),
    _scenario("reader", "outsider put update", "warm refuse ackonly"),
    _scenario("reader", "put put", "early crash refuse flush ackonly expiry"),
    _scenario("reader", "put table", "warm crash refuse expiry"),
    _scenario("reader", "put table", "warm early crash refuse flush ackonly"),
    _scenario("reader", "table table", "warm crash refuse expiry"),
    _scenario("reader reader", "outsider put", "warm refuse expiry ackonly"),
    _scenario("weak weak", "put", "warm crash refuse expiry ackonly"),
    _scenario("weak", "put update", "warm crash refuse expiry ackonly"),
    _scenario("reader", "put put", "warm crash failover expiry"),
    _scenario("reader reader", "put", "warm crash rcrash refuse expiry hash"),
    _scenario("reader forcing", "put", "warm crash refuse expiry mixed"),
    _scenario("reader", "put update", "warm crash refuse expiry hash"),
    _scenario("reader", "put put", "early crash refuse flush ackonly expiry mixed"),
    _scenario("reader reader", "outsider put", "warm refuse ackonly hash"),
    _scenario("reader", "put put", "warm crash failover hash"),
    _scenario("reader", "table", "warm crash table-failover"),
]

if os.environ.get("MODEL") == "long":
    SCENARIOS += [
        _scenario("reader reader", "put update", "warm crash refuse expiry"),
        _scenario("reader reader", "put put", "early crash refuse flush ackonly"),
        _scenario("reader reader", "outsider put", "early crash refuse flush ackonly expiry"),
        _scenario("reader reader reader", "put", "warm crash rcrash refuse expiry"),
        _scenario("reader reader reader", "put", "early crash refuse flush ackonly expiry"),
        _scenario("reader", "put put put", "early crash refuse flush ackonly"),
        _scenario("reader", "outsider put update", "warm crash refuse expiry ackonly"),
    ]


def _failing_run(scenario: Scenario, specification: Specification) -> list[str] | None:
    return explore(scenario, specification)[1]


@pytest.fixture(scope="module")
def explored(valkey: RunningStore) -> Callable[[], Specification]:
    """Every call of every order of steps in the scenarios, performed by the specification.

    Explored when a test first asks: what a fixture does is traced, whatever the test's mark.
    """

    @cache
    def all_explored() -> Specification:
        with RawStore(valkey.address) as store:
            return explore_all(_failing_run, SCENARIOS, store.now_ms())

    return all_explored


@pytest.fixture(scope="module")
def grid(valkey: RunningStore) -> Specification:
    """Every call on every record, performed by the specification."""
    with RawStore(valkey.address) as store:
        specification = Specification(store.now_ms())
    explore_grid(specification)
    return specification


@pytest.mark.store
@pytest.mark.parametrize("kind", ["valkey", "redis7"])
def test_scripts_do_what_the_specification_does(
    kind: str,
    request: pytest.FixtureRequest,
    explored: Callable[[], Specification],
    grid: Specification,
) -> None:
    """No order of steps breaks the promise, and the real scripts do every call alike."""
    running: RunningStore = request.getfixturevalue(kind)
    assert len(explored().performed) > 1500
    assert len(grid.performed) > 1500
    with RawStore(running.address) as store:
        comparison = Comparison(store)
        assert comparison.differences(explored()) == []
        assert comparison.differences(grid) == []


def test_a_tables_record_of_another_incarnation_must_not_count() -> None:
    """A fail-over of the table's primary alone would bring back what entries elsewhere carry."""
    specification = Specification(1_700_000_000_000)
    trusting = _scenario("reader", "table", "warm table-failover trusting")
    _, failing_run = explore(trusting, specification)
    assert failing_run is not None


@pytest.mark.store
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_script_without_one_of_its_rules_is_caught(
    valkey: RunningStore, grid: Specification, mutant: Mutant
) -> None:
    """A script that lost one rule no longer does what the specification does."""

    def text_of(name: str) -> bytes:
        text = original(name).decode()
        if name == mutant.step:
            assert mutant.rule in text, f"{name} has no longer {mutant.rule!r}"
            text = text.replace(mutant.rule, mutant.without)
        return text.encode()

    with RawStore(valkey.address) as store:
        assert Comparison(store, text_of).differences(grid, step=mutant.step) != []
