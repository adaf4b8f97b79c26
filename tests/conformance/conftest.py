"""One pair of engine and proxy for each engine, shared by all tests of the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.embedded.valkey import RunningStore
from tests.conformance.pair import ENGINES, THROUGH, Pair, create_tables, new_names
from tests.support.proxy_process import running_proxy

PARAMS = [pytest.param(engine, marks=pytest.mark.engine) for engine in ENGINES]


@pytest.fixture(scope="session", params=PARAMS)
def pair(request: pytest.FixtureRequest, valkey: RunningStore) -> Iterator[Pair]:
    """Give an engine with its tables, and a proxy in front of it with the embedded store."""
    endpoint = request.getfixturevalue(request.param).endpoint
    names = new_names()
    create_tables(endpoint, names)
    settings = {"tables": {names[table]: {"write_mode": "through"} for table in THROUGH}}
    with running_proxy(upstream=endpoint, store=valkey.url, settings=settings) as proxy:
        yield Pair(request.param, endpoint, proxy, names)


@pytest.fixture
def cold_pair(pair: Pair, empty_valkey: RunningStore) -> Pair:
    """Give the pair with an empty store."""
    return pair
