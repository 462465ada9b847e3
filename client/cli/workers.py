"""Recordings transcribed by workers: with models of their own, each one recording after the other.

A worker that is lost, for whatever reason, is replaced, and its recording is done again, once, by whoever is free.
Here are those that are processes of this machine; `cluster` has others.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, TypeVar

from parastream.client.cli.backends import LocalBackend, Outcome, Watcher
from parastream.media.decoding import SourceError, display_name
from parastream.model import blas, prepare_process
from parastream.model.errors import EngineError, ParastreamError

T = TypeVar("T")

_ATTEMPTS = 2
"""How often a recording is begun before it is taken for what ends the workers."""
_STARTS = 3
"""How often in a row a worker may be lost before it has its models."""


class WorkerLostError(Exception):
    """A worker is gone."""


class Worker(Protocol):
    """Transcribes recordings elsewhere, one at a time."""

    def start(self) -> None:
        """Begin anew after it was lost."""

    async def ready(self) -> None:
        """Wait until it can transcribe.

        Raises:
            ParastreamError: It never will, for example because a model cannot be loaded.
            WorkerLostError: It is gone.
        """

    async def transcribe(self, file: Path) -> Outcome:
        """Return what becomes of a recording. Raises `WorkerLostError`."""
        ...


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


async def share(files: Sequence[Path], watcher: Watcher, workers: Sequence[Worker]) -> AsyncGenerator[Outcome, None]:
    """Have recordings transcribed by workers, and yield the outcomes as they come.

    A recording goes only to a worker that is ready, so none waits for one that is started anew, perhaps for ever. One
    that cannot be started is left out.

    Raises:
        ParastreamError: There is no worker any more.
    """
    left: asyncio.Queue[tuple[int, Path]] = asyncio.Queue()
    for each in enumerate(files):
        left.put_nowait(each)
    losses: Counter[int] = Counter()
    done: asyncio.Queue[Outcome | Exception] = asyncio.Queue()
    working = len(workers)

    async def work(worker: Worker) -> None:
        while True:
            await _get_ready(worker)
            index, file = await left.get()
            try:
                outcome = await worker.transcribe(file)
            except WorkerLostError as error:
                worker.start()
                losses[index] += 1
                if losses[index] < _ATTEMPTS:
                    left.put_nowait((index, file))
                    continue
                outcome = Outcome(index, None, SourceError(f"{display_name(file)}: {error}, twice"))
            watcher.advance(index, outcome.seconds, outcome.seconds)
            done.put_nowait(replace(outcome, index=index))

    async def work_while_possible(worker: Worker) -> None:
        nonlocal working
        try:
            await work(worker)
        except Exception as error:  # else nobody would hear of it
            working -= 1
            if not working:
                done.put_nowait(error)
            else:
                watcher.note(f"transcribing with {working} of {len(workers)} workers: {error}")

    tasks = [asyncio.create_task(work_while_possible(worker)) for worker in workers]
    try:
        for _ in files:
            outcome = await done.get()
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _get_ready(worker: Worker) -> None:
    for _ in range(_STARTS):
        try:
            return await worker.ready()
        except WorkerLostError as error:
            lost = error
            worker.start()
    raise EngineError(f"{lost}, {_STARTS} times before it had its models")


@dataclass
class ProcessesBackend:
    """Transcribes in several processes of this machine; see `Backend`."""

    local: LocalBackend
    at_once: int
    _processes: list[_Process] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        """Start the processes and wait until one has loaded its models, so that wrong models are found out at once."""
        cpus = max(1, blas.cpu_count() // self.at_once)
        self._processes = [_Process(self.local, cpus) for _ in range(self.at_once)]
        try:
            self._processes[0].wait_ready()
        except EOFError as error:
            raise EngineError("the process that was to transcribe ended before it had its models") from error

    def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Share the files between the processes."""
        return share(files, watcher, self._processes)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.end()


class _Process:
    """One of the processes."""

    def __init__(self, backend: LocalBackend, cpus: int) -> None:
        self._backend = backend
        self._cpus = cpus
        self._ready = False
        self._process: BaseProcess
        self._connection: Connection[Path, Outcome | ParastreamError | None]
        self._waiting: ThreadPoolExecutor  # the thread that waits for what the process says
        self.start()

    def start(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # MLX does not survive a fork
        self._connection, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_work, args=(theirs, self._backend, self._cpus), daemon=True)
        self._process.start()
        theirs.close()
        self._waiting = ThreadPoolExecutor(1)
        self._ready = False

    async def ready(self) -> None:
        await self._told(self.wait_ready)

    def wait_ready(self) -> None:
        """Wait until the models are loaded. Raises `ParastreamError` if they cannot be; `EOFError` if it ended."""
        if not self._ready:
            failure = self._connection.recv()
            if isinstance(failure, ParastreamError):
                raise failure
            self._ready = True

    async def transcribe(self, file: Path) -> Outcome:
        try:
            return await self._told(partial(self._transcribe, file))
        except asyncio.CancelledError:
            self._process.terminate()  # which ends the thread that waits
            raise

    def _transcribe(self, file: Path) -> Outcome:
        self._connection.send(file)
        outcome = self._connection.recv()
        assert isinstance(outcome, Outcome)
        return outcome

    async def _told(self, wait: Callable[[], T]) -> T:
        """Return what the process says. Raises `WorkerLostError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._waiting, wait)
        except (EOFError, OSError) as error:
            self.end()
            raise WorkerLostError(f"the process that transcribed it ended ({self._process.exitcode})") from error

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
        self._waiting.shutdown()
        self._connection.close()


def _work(connection: Connection[Outcome | ParastreamError | None, Path], backend: LocalBackend, cpus: int) -> None:
    """Be such a process, until nobody sends recordings any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shares the work out
    prepare_process(cpus)
    with contextlib.suppress(EOFError, OSError):
        try:
            desk = Desk(backend)
        except ParastreamError as error:
            connection.send(error)
            return
        connection.send(None)
        while True:
            connection.send(desk.transcribe(connection.recv()))
