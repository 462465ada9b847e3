"""An event loop that does not wait: when nothing is left to do, its clock leaps to the next timer.

So a test may let hours pass in no time, and its timers go off in the same order on a machine that is busy. Whatever the
test waits for must happen in the loop: there is no waiting for other threads, processes or sockets.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec

P = ParamSpec("P")

_LIMIT = 7 * 24 * 3600.0  # seconds, after which a test is taken to wait for what never happens


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: Sequence[tuple[selectors.SelectorKey, int]] = super().select(0 if timeout is not None else None)
        if not events and timeout:
            self.skipped += timeout
        return list(events)


class LeapingLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._skipping = _Selector()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Return the seconds that have passed or been skipped."""
        return super().time() + self._skipping.skipped

    @property
    def skipped(self) -> float:
        """The seconds that have been skipped, to which those that a busy machine takes do not count."""
        return self._skipping.skipped

    def skip(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing."""
        self._skipping.skipped += seconds


def leaping(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on such a loop; fail it when it waits for what never happens."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(_LIMIT):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=LeapingLoop) as runner:
            runner.run(limited())

    return run
