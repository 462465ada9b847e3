"""Ctrl-C and SIGTERM: the first signal ends a command in good order, the second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def on_interrupt(action: Callable[[], object]) -> None:
    """Let the first SIGINT or SIGTERM call `action`, and the second one end the process at once.

    Python itself would run its exit handlers on the second one, while the inference thread still computes; that aborts
    the process.
    """
    loop = asyncio.get_running_loop()
    interrupted = False

    def on_signal(number: signal.Signals) -> None:
        nonlocal interrupted
        if interrupted:
            os._exit(128 + number)
        interrupted = True
        action()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


def run_interruptible(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` in an event loop and return its exit status, or 130 if a signal cancelled it."""

    async def cancellable() -> int:
        task = asyncio.current_task()
        assert task is not None
        on_interrupt(task.cancel)
        return await main

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        return 130
