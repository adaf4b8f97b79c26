"""Random sequences of item operations give the same answers through the proxy as directly.

Each example has items of its own: directly in one table, through the proxy in tables of every
combination of coherence level and write mode that promises to see one's own writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.embedded.valkey import RunningStore
from tests.conformance.pair import ENGINES, create_table, table_definition
from tests.conformance.sequence_steps import KEYS, STEPS, Step, Way, batch_get, get
from tests.support.dynamo_wire import Json, connected
from tests.support.proxy_process import running_proxy

MODES: Final[dict[str, Json]] = {
    "invalidate": {"write_mode": "invalidate"},
    "through": {"write_mode": "through"},
    "strict": {"level": "strict", "write_mode": "through"},
    "eventual": {"level": "eventual", "write_mode": "through"},
    "off": {"mode": "off"},
}
"""Each is a table with these rules; the sequences of an example run in two of them."""


@pytest.fixture(scope="module", params=[pytest.param(e, marks=pytest.mark.engine) for e in ENGINES])
def ways(request: pytest.FixtureRequest, valkey: RunningStore) -> Iterator[dict[str, Way]]:
    """Give the direct way and one through the proxy for every mode."""
    endpoint = request.getfixturevalue(request.param).endpoint
    tables = {mode: f"s-{uuid.uuid4().hex[:8]}" for mode in ("direct", *MODES)}
    for name in tables.values():
        create_table(endpoint, table_definition(name, KEYS))
    rules = {"tables": {tables[mode]: rule for mode, rule in MODES.items()}}
    with (
        running_proxy(upstream=endpoint, store=valkey.url, settings=rules) as proxy,
        connected(endpoint) as straight,
        connected(proxy.endpoint) as proxied,
    ):
        made = {mode: Way(proxied, tables[mode]) for mode in MODES}
        yield {**made, "direct": Way(straight, tables["direct"])}


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(STEPS, min_size=4, max_size=25),
    modes=st.lists(st.sampled_from(sorted(MODES)), min_size=2, max_size=2, unique=True),
)
def test_sequence_is_answered_as_directly(
    ways: dict[str, Way], steps: list[Step], modes: list[str]
) -> None:
    """Every answer of a sequence, reads, writes and refusals, is the engine's, in both tables."""
    mark = uuid.uuid4().hex[:8]
    for number, step in enumerate(steps):
        expected = ways["direct"].answer(step, mark)
        for mode in modes:
            assert ways[mode].answer(step, mark) == expected, (number, mode)


def test_sequences_do_hit_the_cache(ways: dict[str, Way]) -> None:
    """The tables with a cache answer repeated reads from it, the one without never does."""
    read = get(("a", "1"), "", consistent=False)
    batch = batch_get([("a", "1"), ("a", "2")], "", consistent=False)
    for mode in MODES:
        for step in (read, batch):
            for _ in range(2):
                ways[mode].answer(step, "nobody")
            assert ("; hit" in ways[mode].cache_says[-1]) == (mode != "off")
