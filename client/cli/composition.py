"""Puts models, engine and server together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from parastream.model import catalogue, load, load_punctuation, silero_weights
from parastream.model.config import Precision
from parastream.server.app import Server, new_server
from parastream.server.config import ServerConfig
from parastream.streaming import Models
from parastream.streaming.vad import Vad


@dataclass(frozen=True)
class ModelChoice:
    """Models by name or directory, as the command line has them; None for the embedded ones."""

    model: str | None = None
    final_model: str | None = None
    """None: the second pass uses the same model."""
    punctuation: str | None = None
    """`none` turns punctuation off."""
    offline: bool = False
    dtype: Precision | None = None
    """Type in which speech models are computed; None: what suits the device."""

    @property
    def speech(self) -> str:
        """Name or directory of the streaming pass's model."""
        return self.model or catalogue.DEFAULT

    def load(self) -> Models:
        """Fetch what is not here yet and load everything, on the thread that will run it.

        Raises `ModelError`.
        """
        offline, dtype = self.offline, self.dtype
        return Models(
            speech=load(self.speech, dtype=dtype, offline=offline),
            final=load(self.final_model, dtype=dtype, offline=offline) if self.final_model else None,
            punctuation=(
                None
                if self.punctuation == "none"
                else load_punctuation(self.punctuation or catalogue.DEFAULT_PUNCTUATION, offline=offline)
            ),
            vad=Vad(silero_weights.load(offline=offline)),
        )


def on_interrupt(action: Callable[[], object]) -> None:
    """Let the first SIGINT or SIGTERM call `action` and the second end the process at once.

    Without this a second one would end Python while the inference thread runs, which aborts the process.
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
    """Run `main` in an event loop; 130 when a signal cancelled it, else what it returns."""

    async def cancellable() -> int:
        task = asyncio.current_task()
        assert task is not None
        on_interrupt(task.cancel)
        return await main

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        return 130


@contextlib.asynccontextmanager
async def local_server(choice: ModelChoice) -> AsyncIterator[Server]:
    """A warm server in this process, on a free port. Raises `ParastreamError` when it cannot start."""
    server = new_server(choice.load, ServerConfig(port=0, model=choice.speech))
    engine = server.engine
    engine.start()
    try:
        await asyncio.to_thread(engine.wait_ready)
        await server.start()
        try:
            yield server
        finally:
            await server.close()
    finally:
        await asyncio.to_thread(engine.close)
