"""Claims of proxy.stop_signals."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from proxy.stop_signals import SIGNALS, StopSignals


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
    for each in SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(each)
