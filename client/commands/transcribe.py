"""`parastream transcribe`: recordings to transcripts, here or through a server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from parastream.client.client import connect
from parastream.client.commands.composition import ModelChoice
from parastream.client.commands.conversation import converse
from parastream.client.errors import ClientError
from parastream.client.sources import FileSource, SourceError, read
from parastream.model.errors import ParastreamError
from parastream.server.messages import Final, ServerMessage
from parastream.server.subtitles import SpokenUtterance, TranscriptFormat, render
from parastream.streaming import SessionConfig, Transcriber
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[float], None]
"""Takes the seconds of audio that have been dealt with since the last call."""

FAILURES = (ParastreamError, ClientError, SourceError, OSError)
"""What can go wrong with one recording and leaves the others alone."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording."""

    file: Path
    utterances: Sequence[SpokenUtterance] = ()
    error: Exception | None = None


class Task(Protocol):
    """A way to transcribe."""

    def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """One outcome for each file, in their order, each as soon as it and those before it are done."""
        ...


@dataclass(frozen=True)
class Local:
    """Transcribes with models in this process, one recording after the other."""

    choice: ModelChoice
    final_pass: bool
    channel: int | None

    async def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """See `Task`. Raises `ModelError` when a model cannot be loaded."""
        models = self.choice.load()
        transcriber = Transcriber(
            models.speech,
            punctuation=models.punctuation,
            final_model=models.final,
            vad=models.vad,
            config=SessionConfig(partials=False, final_pass=self.final_pass),
        )
        for file in files:
            try:
                samples, rate = read(file, self.channel)
                transcript = transcriber.transcribe(samples, rate, progress=_since_last(advance))
            except FAILURES as error:
                yield Outcome(file, error=error)
            else:
                yield Outcome(file, transcript.utterances)


@dataclass(frozen=True)
class Remote:
    """Sends recordings to a server, several at a time."""

    server: str
    token: str | None
    model: str
    """Empty: whatever the server has."""
    punctuate: bool
    final_pass: bool
    channel: int | None
    pace: float
    """1 is real time, 0 as fast as the server accepts."""
    jobs: int

    async def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """See `Task`."""
        turns = asyncio.Semaphore(self.jobs)
        tasks = [asyncio.create_task(self._in_turn(turns, file, advance)) for file in files]
        try:
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, turns: asyncio.Semaphore, file: Path, advance: Advance) -> Outcome:
        async with turns:
            try:
                return Outcome(file, await self._transcribe(file, advance))
            except FAILURES as error:
                return Outcome(file, error=error)

    async def _transcribe(self, file: Path, advance: Advance) -> list[Final]:
        source = FileSource(file, pace=self.pace, channel=self.channel)

        async def blocks() -> AsyncIterator[NDArray[Any]]:
            async for block in source:
                yield block
                advance(len(block) / source.rate)

        finals: list[Final] = []

        def receive(message: ServerMessage) -> None:
            if isinstance(message, Final):
                finals.append(message)

        async with connect(
            self.server,
            token=self.token,
            format=source.format,
            rate=source.rate,
            model=self.model,
            partials=False,
            punctuation=self.punctuate,
            final_pass=self.final_pass,
        ) as client:
            await converse(client, blocks(), receive)
        return finals


def run(files: Sequence[Path], task: Task, form: TranscriptFormat, output: Path | None) -> int:
    """Transcribe, write, and return the exit status.

    Raises:
        ParastreamError: nothing could be transcribed, for example because a model cannot be loaded.
        OSError: the transcripts cannot be written.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(files, task, form, output))


async def _run(files: Sequence[Path], task: Task, form: TranscriptFormat, output: Path | None) -> int:
    failed = False
    with _progress_bar() as bar:
        row = bar.add_task("transcribing", total=sum(map(_duration, files)) or None)
        outcomes = task.outcomes(files, lambda seconds: bar.advance(row, seconds))
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                # The bar may share its terminal with the lines that are printed.
                bar.stop()
                if outcome.error is not None:
                    failed = True
                    print(f"error: {_named(outcome.file, outcome.error)}", file=sys.stderr, flush=True)
                else:
                    _write(outcome, form, output, several=len(files) > 1)
                bar.start()
    return 1 if failed else 0


def _write(outcome: Outcome, form: TranscriptFormat, output: Path | None, *, several: bool) -> None:
    text = render(outcome.utterances, form, file=str(outcome.file))
    if output is not None:
        (output / (outcome.file.stem + form.suffix)).write_text(text, "utf-8")
        return
    named = several and form is TranscriptFormat.TEXT
    print(f"{outcome.file}: {text}" if named else text, end="", flush=True)


def _named(file: Path, error: Exception) -> str:
    message = str(error)
    return message if message.startswith(str(file)) else f"{file}: {message}"


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _duration(file: Path) -> float:
    try:
        return FileSource(file).duration
    except SourceError:
        return 0.0


def _since_last(advance: Advance) -> Advance:
    """Makes a taker of totals from a taker of steps, which also ends the work after Ctrl-C: asyncio cannot while
    its thread computes."""
    done = 0.0
    task = asyncio.current_task()

    def progress(seconds: float) -> None:
        nonlocal done
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        advance(seconds - done)
        done = seconds

    return progress
