"""Things that happen on time."""

from __future__ import annotations

import asyncio

from parastream.server.transport.ticker import Ticker

from ...waiting import settle, until
from ..leaping import leaping


@leaping
async def test_it_ticks_when_due_and_when_woken_and_not_otherwise() -> None:
    ticks: list[float] = []
    dues = iter([0.0, 0.0])  # long ago

    def tick(now: float) -> float:
        ticks.append(now)
        return next(dues, float("inf"))

    ticker = Ticker(tick)
    running = asyncio.create_task(ticker.run())
    await until(lambda: len(ticks) == 3)
    await settle()
    assert len(ticks) == 3
    ticker.wake()
    await until(lambda: len(ticks) == 4)
    running.cancel()
    assert ticks == sorted(ticks)


@leaping
async def test_a_tick_is_not_early() -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + 1
    ticks: list[float] = []

    def tick(now: float) -> float:
        ticks.append(now)
        return due if now < due else float("inf")

    running = asyncio.create_task(Ticker(tick).run())
    await until(lambda: len(ticks) == 2)
    running.cancel()
    assert ticks[1] >= due
