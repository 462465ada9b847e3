"""The one way in which things happen on time: objects say when they want to be called again."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

Tick = Callable[[float], float]
"""Does what is due at an instant of the loop's clock and returns the next one; infinity for none."""


class Ticker:
    """Calls a `tick` when it is due."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._sooner = asyncio.Event()

    def wake(self) -> None:
        """Have `tick` called now, since something may have become due earlier than it said."""
        self._sooner.set()

    async def run(self) -> None:
        """Tick until cancelled, or until `tick` raises."""
        clock = asyncio.get_running_loop().time
        while True:
            self._sooner.clear()
            due = self._tick(clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if due == math.inf else due):
                    await self._sooner.wait()
