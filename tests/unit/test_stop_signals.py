"""Claims of proxy.stop_signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from proxy.stop_signals import SIGNALS, StopSignals


@pytest.fixture(autouse=True)
async def no_handlers_left() -> AsyncIterator[None]:
    """Take every handler away again."""
    yield
    for each in (*SIGNALS, signal.SIGHUP, signal.SIGUSR1):
        asyncio.get_running_loop().remove_signal_handler(each)


@pytest.mark.parametrize("number", SIGNALS)
async def test_first_signal_asks_and_second_hurries(number: signal.Signals) -> None:
    """SIGTERM and SIGINT are the same; what counts is how many came."""
    stop = StopSignals()
    stop.install()
    os.kill(os.getpid(), number)
    await stop.asked.wait()
    assert not stop.hurried.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.hurried.wait()


async def test_closed_terminal_asks_and_never_hurries() -> None:
    """SIGHUP asks to drain however often it comes; a SIGTERM after it hurries."""
    stop = StopSignals()
    stop.install()
    both_were_heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, both_were_heard.set)
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    await both_were_heard.wait()
    assert stop.asked.is_set()
    assert not stop.hurried.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.hurried.wait()


async def test_hangup_that_is_ignored_stays_ignored() -> None:
    """Started by nohup, the process outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        StopSignals().install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
