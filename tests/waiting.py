"""Wait for what happens elsewhere: on another task, on another thread, in another process, in a browser.

A test waits for the event itself and for as long as it takes. The limit is there for what never happens: it ends the
test with the name of what did not come.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT = 50.0
"""Seconds after which something is taken to hang: far more than a busy machine needs, and less than `asynchronous`
allows a whole test.
"""
_INTERVAL = 0.005


async def until(condition: Callable[[], T], *, limit: float = LIMIT) -> T:
    """Let the event loop run until `condition` is true; return what it returned.

    Raises:
        AssertionError: it is still false after `limit` seconds.
    """
    end = time.monotonic() + limit
    while not (found := condition()):
        _check(end, limit, condition)
        await asyncio.sleep(_INTERVAL)
    return found


def wait_until(condition: Callable[[], T], *, limit: float = LIMIT, pause: Callable[[float], object] = time.sleep) -> T:
    """Do the same on a thread without an event loop, which meanwhile does `pause(seconds)` again and again.

    Raises:
        AssertionError: it is still false after `limit` seconds.
    """
    end = time.monotonic() + limit
    while not (found := condition()):
        _check(end, limit, condition)
        pause(_INTERVAL)
    return found


async def settle() -> None:
    """Let every task run that can, as often as it takes until all of them wait for something outside this thread."""
    for _ in range(100):
        await asyncio.sleep(0)


def _check(end: float, limit: float, condition: Callable[[], object]) -> None:
    if time.monotonic() > end:
        raise AssertionError(f"waited {limit:.0f} s in vain for: {_source(condition)}")


def _source(condition: Callable[[], object]) -> str:
    """How the test puts it, with the values of the variables that it closes over."""
    try:
        source = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        source = repr(condition)
    variables = inspect.getclosurevars(condition).nonlocals if inspect.isfunction(condition) else {}
    return source + "".join(f"\n  {name} = {value!r:.500}" for name, value in variables.items())
