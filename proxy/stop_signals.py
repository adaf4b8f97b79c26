"""Hears SIGTERM and SIGINT: the first asks to drain, the second to end at once.

SIGHUP, of a terminal that closed, asks to drain and never hurries: it may come twice, from the
shell and from the kernel.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """The signals received so far.

    `asked` is set by the first, `hurried` by the second.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def install(self) -> None:
        """Listen from now on; call in the main thread, inside the running loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.received)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(signal.SIGHUP, self.asked.set)

    def received(self) -> None:
        """Take one signal."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()
