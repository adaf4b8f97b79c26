"""Runs the flows' tests on virtual time and refuses tasks that outlive a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from proxy.core.policy import FencePolicy
from tests.support.flow_world import World
from tests.support.virtual_time import VirtualTimeLoop


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], Any]]:
    """Give every asynchronous test here a loop whose time is virtual."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
async def _nothing_left_over() -> AsyncIterator[None]:
    """Fail the test that leaves a task behind, or in which a callback failed."""
    failed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left over: {sorted(task.get_name() for task in left)}"
    assert not failed, f"nobody handled: {failed}"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give a store and a DynamoDB for any number of proxies."""
    made = World(FencePolicy())
    yield made
    await made.upstream.close()
