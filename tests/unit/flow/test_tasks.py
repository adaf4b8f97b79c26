"""Claims about `proxy.flow.tasks`."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.errors import UpstreamFailed, UpstreamFailure
from proxy.flow.events import Event, InvariantViolated
from proxy.flow.tasks import TaskOwner, result_of
from tests.support.virtual_time import quiesce


@pytest.fixture
def events() -> list[Event]:
    """Give the events that were told, in order."""
    return []


@pytest.fixture
def tasks(events: list[Event]) -> TaskOwner:
    """Give an owner that tells its events."""
    return TaskOwner(events.append)


async def test_spawned_task_has_its_name_and_leaves_when_done(tasks: TaskOwner) -> None:
    """A task is owned from its start to its end, under the name it was given."""
    task = tasks.spawn(asyncio.sleep(1.0, "done"), "nap")
    assert (task.get_name(), len(tasks)) == ("nap", 1)
    assert await task == "done"
    assert len(tasks) == 0


async def test_task_outlives_a_cancelled_waiter_that_shields_it(tasks: TaskOwner) -> None:
    """Who awaits a task through a shield may be cancelled; the task goes on."""
    task = tasks.spawn(asyncio.sleep(1.0, "done"), "nap")

    async def wait() -> None:
        await asyncio.shield(task)

    waiter = asyncio.ensure_future(wait())
    await quiesce()
    waiter.cancel()
    await asyncio.wait({waiter})
    assert await task == "done"


async def test_unexpected_error_is_told_even_when_nobody_waits(
    tasks: TaskOwner, events: list[Event]
) -> None:
    """A bug in a background task becomes an event that names the task and the error's class."""

    async def fall() -> None:
        raise KeyError("no item data may be told")

    tasks.spawn(fall(), "fall")
    await quiesce()
    assert events == [InvariantViolated("fall: KeyError")]
    assert len(tasks) == 0


async def test_expected_error_is_left_to_whoever_waits(
    tasks: TaskOwner, events: list[Event]
) -> None:
    """An error of the proxy's own is no bug: its waiter handles it, and none may be there."""

    async def fail() -> None:
        raise UpstreamFailed(UpstreamFailure.TIMEOUT, "silent", maybe_applied=True)

    tasks.spawn(fail(), "unwatched")
    watched = tasks.spawn(fail(), "watched")
    with pytest.raises(UpstreamFailed):
        await watched
    assert events == []


async def test_settle_waits_for_what_ends_in_time(tasks: TaskOwner) -> None:
    """Stopping lets tasks finish within the deadline, and takes no longer than they do."""
    loop = asyncio.get_running_loop()
    task = tasks.spawn(asyncio.sleep(1.0, "done"), "nap")
    await tasks.settle(2.0, asyncio.sleep)
    assert task.result() == "done"
    assert loop.time() == 1.0


async def test_settle_cancels_what_takes_too_long(tasks: TaskOwner, events: list[Event]) -> None:
    """At the deadline the rest is cancelled, may clean up, and counts as no bug."""
    cleaned: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append("up")

    loop = asyncio.get_running_loop()
    task = tasks.spawn(linger(), "linger")
    await tasks.settle(2.0, asyncio.sleep)
    assert task.cancelled()
    assert cleaned == ["up"]
    assert loop.time() == 2.5
    assert (len(tasks), events) == (0, [])


async def test_settle_waits_for_the_others_when_one_fails(tasks: TaskOwner) -> None:
    """A task that fails while stopping does not cut the others short."""

    async def fail() -> None:
        raise UpstreamFailed(UpstreamFailure.RESET, "broken", maybe_applied=True)

    tasks.spawn(fail(), "fail")
    task = tasks.spawn(asyncio.sleep(1.0, "done"), "nap")
    await tasks.settle(2.0, asyncio.sleep)
    assert task.result() == "done"


async def test_settle_with_nothing_to_do_returns_at_once(tasks: TaskOwner) -> None:
    """Stopping an idle owner takes no time."""
    await tasks.settle(2.0, asyncio.sleep)
    assert asyncio.get_running_loop().time() == 0.0


async def test_kept_work_starts_again_after_a_bug_or_an_end(
    tasks: TaskOwner, events: list[Event]
) -> None:
    """A worker that should never end is counted and started anew, until it is cancelled."""
    runs: list[str] = []
    pauses: list[float] = []
    fourth = asyncio.Event()

    async def work() -> None:
        runs.append("run")
        if len(runs) == 1:
            raise KeyError("a bug")
        if len(runs) == 4:
            fourth.set()
            await asyncio.Event().wait()

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    kept = asyncio.ensure_future(tasks.keep(work, "worker", sleep))
    await fourth.wait()
    kept.cancel()
    await asyncio.gather(kept, return_exceptions=True)
    assert kept.cancelled()
    assert events == [InvariantViolated("worker: KeyError")]
    assert pauses == [1.0] * 3


async def test_a_result_is_the_tasks_own(tasks: TaskOwner) -> None:
    """What it returned, raised, or that it was cancelled."""

    async def fail() -> None:
        raise UpstreamFailed(UpstreamFailure.RESET, "gone", maybe_applied=True)

    assert await result_of(tasks.spawn(asyncio.sleep(1.0, "done"), "nap")) == "done"
    with pytest.raises(UpstreamFailed):
        await result_of(tasks.spawn(fail(), "fall"))
    ended = tasks.spawn(asyncio.sleep(1.0), "nap")
    ended.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result_of(ended)


async def test_task_outlives_a_cancelled_waiter_for_its_result(tasks: TaskOwner) -> None:
    """Its end is then told to nobody, and to all others."""
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    task = tasks.spawn(asyncio.sleep(1.0, "done"), "nap")
    waiters = [asyncio.ensure_future(result_of(task)) for _ in range(2)]
    await quiesce()
    waiters[0].cancel()
    await asyncio.wait({waiters[0]})
    assert await waiters[1] == "done"
    assert waiters[0].cancelled()
    assert problems == []
