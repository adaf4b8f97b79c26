"""Nothing that the proxy does leaves a cycle behind, so it may look for cycles hardly ever."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import CoroutineType, FrameType

import pytest

import proxy
from proxy.edge.garbage import Garbage
from proxy.embedded.valkey import RunningStore
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.fake_upstream_script import FAILED, RESET_BEFORE, THROTTLED
from tests.support.serving import Serving, Wire, item, key, post, serving

pytestmark = pytest.mark.store

TIMES = 20
ROOT = str(Path(proxy.__file__).parent)

Use = Callable[[Wire, int, FakeUpstream], Awaitable[None]]


async def ask(wire: Wire, raw: bytes) -> None:
    """Make one request and wait for its answer."""
    await wire.send(raw)
    await wire.reply()


async def hit(wire: Wire, _: int, __: FakeUpstream) -> None:
    """Read what is cached."""
    await ask(wire, post("GetItem", key("a")))


async def miss(wire: Wire, number: int, _: FakeUpstream) -> None:
    """Read what is not."""
    await ask(wire, post("GetItem", key(f"miss {number}")))


async def write(wire: Wire, number: int, _: FakeUpstream) -> None:
    """Write."""
    await ask(wire, post("PutItem", item("written", number)))


async def batch(wire: Wire, number: int, _: FakeUpstream) -> None:
    """Read several."""
    keys = [{"pk": {"S": f"batch {number} {each}"}} for each in range(10)]
    await ask(wire, post("BatchGetItem", {"RequestItems": {"t": {"Keys": keys}}}))


async def passed(wire: Wire, _: int, __: FakeUpstream) -> None:
    """Do what is not cached."""
    await ask(wire, post("DescribeTable", {"TableName": "t"}))


async def throttled(wire: Wire, number: int, upstream: FakeUpstream) -> None:
    """Be refused."""
    upstream.fail("GetItem", THROTTLED)
    await ask(wire, post("GetItem", key(f"throttled {number}")))


async def failed(wire: Wire, number: int, upstream: FakeUpstream) -> None:
    """Meet an upstream in trouble."""
    upstream.fail("GetItem", FAILED)
    await ask(wire, post("GetItem", key(f"failed {number}")))


async def reset(wire: Wire, number: int, upstream: FakeUpstream) -> None:
    """Lose the upstream's connection, which the proxy makes anew and tries once more."""
    upstream.fail("PutItem", RESET_BEFORE)
    await ask(wire, post("PutItem", item("written", number)))


USES: list[Use] = [hit, miss, write, batch, passed, throttled, failed, reset]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Run a DynamoDB with one item."""
    async with FakeUpstream() as fake:
        fake.tables.add("t", pk="S")
        fake.tables.call("PutItem", item("a", 1))
        yield fake


@pytest.fixture
async def served(upstream: FakeUpstream, valkey: RunningStore) -> AsyncIterator[Serving]:
    """Run a proxy, whose first request has been answered."""
    async with serving(upstream.endpoint, store=valkey.url) as proxy:
        for _ in range(3):
            assert (await proxy.call("GetItem", key("a"))).status == 200
        yield proxy


@pytest.fixture(autouse=True)
def others_left_out() -> Iterator[None]:
    """Leave what is there already out of every look: the process has all tests in it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def left_over() -> Iterator[Callable[[], list[object]]]:
    """Stop the collector, and give what tells what of the proxy's it would have had to free."""
    gc.disable()
    while gc.collect():  # what goes may leave more
        pass

    def look() -> list[object]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = [each for each in gc.garbage if _is_ours(each)]
        gc.garbage.clear()
        return found

    yield look
    gc.enable()


def _is_ours(found: object) -> bool:
    code = None
    if isinstance(found, FrameType):
        code = found.f_code
    elif isinstance(found, CoroutineType):
        code = found.cr_code
    if code is not None:
        return code.co_filename.startswith(ROOT)
    module = sys.modules.get(type(found).__module__)
    return str(getattr(module, "__file__", "")).startswith(ROOT)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_no_request_leaves_a_cycle(
    use: Use, served: Serving, upstream: FakeUpstream, left_over: Callable[[], list[object]]
) -> None:
    """Whatever is asked, and however it fails, reference counts free all of it."""
    async with served.wire() as wire:
        for number in range(TIMES):
            await use(wire, number, upstream)
        assert left_over() == []


async def test_no_connection_leaves_a_cycle(
    served: Serving, left_over: Callable[[], list[object]]
) -> None:
    """Clients come and go, some of them in the midst of a request."""
    raw = post("GetItem", key("a"))
    for _ in range(TIMES):
        async with served.wire() as wire:
            await ask(wire, raw)
            await wire.send(raw[:50])
        async with served.wire() as wire:
            await wire.send(raw)
    assert (await served.call("GetItem", key("a"))).status == 200
    assert left_over() == []


def test_a_cycle_would_be_seen(left_over: Callable[[], list[object]]) -> None:
    """The look itself works."""
    ring = Garbage(lambda: 0)
    ring._resident = ring._unexplained
    del ring
    assert [type(found) for found in left_over()] == [Garbage]
