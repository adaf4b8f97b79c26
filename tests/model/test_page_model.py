"""No order of steps shows a page older than a write, and each rule of the protocol is needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from proxy.embedded.valkey import RunningStore
from tests.model.comparison import Comparison
from tests.model.exploration import explore_all
from tests.model.page_model import PageScenario, explore_pages
from tests.model.steps import Specification
from tests.support.raw_store import RawStore


def _scenario(readers: int, writers: str, options: str = "", without: str = "") -> PageScenario:
    return PageScenario(readers, tuple(writers.split()), frozenset(options.split()), without)


# The longest first: they are explored on all processors.
SCENARIOS = [
    _scenario(2, "item table", "flush"),
    _scenario(2, "item item", "announced flush"),
    _scenario(3, "item", "announced crash refuse"),
    _scenario(2, "item item", "announced crash refuse"),
    _scenario(2, "item table", "announced crash refuse"),
    _scenario(2, "table table", "announced crash refuse"),
    _scenario(3, "item", "crash refuse"),
    _scenario(2, "item item", "crash refuse"),
    _scenario(2, "item table", "refuse"),
]


@pytest.fixture(scope="module")
def explored(valkey: RunningStore) -> Callable[[], Specification]:
    """Every call of every order of steps in the scenarios, performed by the specification.

    Explored when a test first asks: what a fixture does is traced, whatever the test's mark.
    """

    @cache
    def all_explored() -> Specification:
        with RawStore(valkey.address) as store:
            return explore_all(explore_pages, SCENARIOS, store.now_ms())

    return all_explored


@pytest.mark.store
@pytest.mark.parametrize("kind", ["valkey", "redis7"])
def test_no_page_is_older_than_a_write(
    kind: str, request: pytest.FixtureRequest, explored: Callable[[], Specification]
) -> None:
    """In every order of steps the promise holds, and the real scripts do every call alike."""
    running: RunningStore = request.getfixturevalue(kind)
    with RawStore(running.address) as store:
        assert Comparison(store).differences(explored()) == []


@pytest.mark.parametrize(
    ("without", "writers", "options", "readers"),
    [
        ("begin", "item", "announced", 3),
        ("raise", "item", "announced", 2),
        ("delay", "item", "", 2),
        ("scope", "item", "announced", 2),
        ("table", "table", "announced", 2),
    ],
)
def test_each_rule_is_needed(without: str, writers: str, options: str, readers: int) -> None:
    """Leaving one out, some order of steps shows an older page."""
    specification = Specification(1_700_000_000_000)
    assert explore_pages(_scenario(readers, writers, options), specification) is None
    assert explore_pages(_scenario(readers, writers, options, without), specification) is not None
