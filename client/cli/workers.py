"""Recordings transcribed in several processes: with models of their own, each one recording after the other.

A process that ends, for whatever reason, is replaced, and its recording is done again, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from parastream.client.cli.backends import LocalBackend, Outcome, Watcher
from parastream.media.decoding import SourceError, display_name
from parastream.model import prepare_process
from parastream.model.errors import ParastreamError

_ATTEMPTS = 2
"""How often a recording is begun before it is taken for what ends the processes."""

Attempt = Callable[[Path], Awaitable[Outcome]]
"""Transcribes a recording elsewhere. Raises `WorkerLostError`."""


class WorkerLostError(Exception):
    """Whoever transcribed a recording is gone."""


class Silent:
    """Shows nothing."""

    def advance(self, index: int, seconds: float, total: float | None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class Desk:
    """Transcribes one recording at a time, on the thread that it was made on."""

    def __init__(self, backend: LocalBackend) -> None:
        """Load the models. Raises `ParastreamError`."""
        self._backend = backend
        backend.prepare()

    def transcribe(self, file: Path) -> Outcome:
        """Return what becomes of a recording; it has the index 0."""
        return asyncio.run(self._transcribe(file))

    async def _transcribe(self, file: Path) -> Outcome:
        async with contextlib.aclosing(self._backend.outcomes([file], Silent())) as outcomes:
            outcome = await anext(outcomes)
        error = outcome.error
        # Any other kind might not survive the way to the process that asked.
        return outcome if error is None else replace(outcome, error=SourceError(str(error) or type(error).__name__))


async def share(files: Sequence[Path], watcher: Watcher, attempts: Sequence[Attempt]) -> AsyncGenerator[Outcome, None]:
    """Have recordings transcribed, one at a time by each of several workers, and yield the outcomes as they come."""
    left: Iterator[tuple[int, Path]] = iter(enumerate(files))
    done: asyncio.Queue[Outcome] = asyncio.Queue()

    async def work(attempt: Attempt) -> None:
        for index, file in left:
            outcome = replace(await _persistent(attempt, file), index=index)
            watcher.advance(index, outcome.seconds, outcome.seconds)
            done.put_nowait(outcome)

    tasks = [asyncio.create_task(work(attempt)) for attempt in attempts]
    try:
        for _ in files:
            yield await done.get()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _persistent(attempt: Attempt, file: Path) -> Outcome:
    for _ in range(_ATTEMPTS):
        try:
            return await attempt(file)
        except WorkerLostError as error:
            lost = error
    return Outcome(0, None, SourceError(f"{display_name(file)}: {lost}, twice"))


@dataclass
class ProcessesBackend:
    """Transcribes in several processes of this machine; see `Backend`."""

    local: LocalBackend
    jobs: int
    _processes: list[_Process] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        """Start the processes and wait until one has loaded its models, so that wrong models are found out at once."""
        self._processes = [_Process(self.local) for _ in range(self.jobs)]
        self._processes[0].wait_ready()

    def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Share the files between the processes."""
        return share(files, watcher, [process.transcribe for process in self._processes])

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.end()


class _Process:
    """One of the processes, which is started anew when it has ended."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._ready = False
        self._process: BaseProcess
        self._connection: Connection[Path, Outcome | ParastreamError | None]
        self._start()

    def _start(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # MLX does not survive a fork
        self._connection, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_work, args=(theirs, self._backend), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False

    def wait_ready(self) -> None:
        """Wait until the models are loaded. Raises `ParastreamError` if they cannot be; `EOFError` if it ended."""
        if not self._ready:
            failure = self._connection.recv()
            if isinstance(failure, ParastreamError):
                raise failure
            self._ready = True

    async def transcribe(self, file: Path) -> Outcome:
        """Have a recording transcribed. Raises `WorkerLostError`."""
        try:
            return await asyncio.to_thread(self._transcribe, file)
        except (EOFError, OSError) as error:
            self.end()
            self._start()
            raise WorkerLostError(f"the process that transcribed it ended ({self._process.exitcode})") from error
        except asyncio.CancelledError:
            self._process.terminate()  # which ends the thread that waits
            raise

    def _transcribe(self, file: Path) -> Outcome:
        self.wait_ready()
        self._connection.send(file)
        outcome = self._connection.recv()
        assert isinstance(outcome, Outcome)
        return outcome

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
        self._connection.close()


def _work(connection: Connection[Outcome | ParastreamError | None, Path], backend: LocalBackend) -> None:
    """Be such a process, until nobody sends recordings any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shares the work out
    prepare_process()
    with contextlib.suppress(EOFError, OSError):
        try:
            desk = Desk(backend)
        except ParastreamError as error:
            connection.send(error)
            return
        connection.send(None)
        while True:
            connection.send(desk.transcribe(connection.recv()))
