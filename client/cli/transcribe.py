"""`parastream transcribe`: recordings to transcripts, here or through a server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from parastream.client.cli.composition import ModelChoice
from parastream.client.cli.duplex import new_journal, run_duplex
from parastream.client.client import connect
from parastream.client.errors import ClientError
from parastream.client.session import ClientEvent
from parastream.client.sources import Channel, FileSource, SourceError, read
from parastream.model.errors import ParastreamError
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render, running_text
from parastream.server.transcripts.labels import channel_labels
from parastream.server.transcripts.utterance import SpokenUtterance, speaker_of, spoken
from parastream.server.wire.messages import Final
from parastream.streaming import SessionConfig, Transcriber
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

Advance = Callable[[int, float], None]
"""Takes the index of a recording, and how many more seconds of its audio have been dealt with."""

FAILURES = (ParastreamError, ClientError, SourceError, OSError)
"""What can go wrong with one recording and leaves the others alone."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording."""

    file: Path
    utterances: Sequence[SpokenUtterance] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class Hearing:
    """Which channels are heard, and who speaks on them."""

    channel: Channel
    labels: Sequence[str] = ()
    """Names by channel, where all are kept apart; those without a name get a number."""

    def names(self, file: Path, channels: int) -> tuple[str, ...]:
        """A name for each of the recognised channels, or none at all. Raises `SourceError`: there are too many."""
        if self.channel != "all":
            return ()
        try:
            return channel_labels(channels, self.labels)
        except ValueError as error:
            raise SourceError(f"{file}: {error}") from error


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
    hearing: Hearing

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
        for index, file in enumerate(files):
            try:
                utterances = self._transcribe(transcriber, file, partial(advance, index))
            except FAILURES as error:
                yield Outcome(file, error=error)
            else:
                yield Outcome(file, utterances)

    def _transcribe(
        self, transcriber: Transcriber, file: Path, advance: Callable[[float], None]
    ) -> list[SpokenUtterance]:
        samples, rate = read(file, self.hearing.channel)
        channels = [samples] if samples.ndim == 1 else list(np.ascontiguousarray(samples.T))
        names = self.hearing.names(file, len(channels))
        utterances: list[SpokenUtterance] = []
        for channel, heard in enumerate(channels):
            progress = _since_last(lambda seconds: advance(seconds / len(channels)))
            finals = transcriber.transcribe(heard, rate, progress=progress).utterances
            utterances += [spoken(final, channel, names) for final in finals]
        return utterances


@dataclass(frozen=True)
class Remote:
    """Sends recordings to a server, several at a time."""

    server: str
    token: str | None
    model: str
    """Empty: whatever the server has."""
    punctuate: bool
    final_pass: bool
    hearing: Hearing
    pace: float
    """1 is real time, 0 as fast as the server accepts."""
    jobs: int
    save: Path | None = None
    """Directory in which each session is saved while it lasts."""

    async def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """See `Task`."""
        turns = asyncio.Semaphore(self.jobs)
        tasks = [
            asyncio.create_task(self._in_turn(turns, file, partial(advance, index))) for index, file in enumerate(files)
        ]
        try:
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, turns: asyncio.Semaphore, file: Path, advance: Callable[[float], None]) -> Outcome:
        async with turns:
            try:
                return Outcome(file, await self._transcribe(file, advance))
            except FAILURES as error:
                return Outcome(file, error=error)

    async def _transcribe(self, file: Path, advance: Callable[[float], None]) -> list[SpokenUtterance]:
        source = FileSource(file, pace=self.pace, channel=self.hearing.channel)
        names = self.hearing.names(file, source.channels)

        async def blocks() -> AsyncIterator[NDArray[Any]]:
            async for block in source:
                yield block
                advance(len(block) / source.rate)

        utterances: list[SpokenUtterance] = []

        async with connect(
            self.server,
            token=self.token,
            format=source.format,
            rate=source.rate,
            channels=source.channels,
            channel="all" if self.hearing.channel == "all" else 0,
            labels=names,
            model=self.model,
            partials=False,
            punctuation=self.punctuate,
            final_pass=self.final_pass,
        ) as client:
            with contextlib.ExitStack() as stack:
                journal = None
                if self.save is not None:
                    journal = stack.enter_context(new_journal(self.save, client, names, report=_report))

                def receive(event: ClientEvent) -> None:
                    if isinstance(event, Final):
                        utterances.append(spoken(event, event.channel, names))

                await run_duplex(client, blocks(), receive, journal)
        return utterances


def run(files: Sequence[Path], task: Task, form: TranscriptFormat, output: Path | None, style: SubtitleStyle) -> int:
    """Transcribe, write, and return the exit status.

    Raises:
        ParastreamError: nothing could be transcribed, for example because a model cannot be loaded.
        OSError: the transcripts cannot be written.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(files, task, form, output, style))


async def _run(
    files: Sequence[Path], task: Task, form: TranscriptFormat, output: Path | None, style: SubtitleStyle
) -> int:
    failed = False
    with _Bars(files) as bars:
        outcomes = task.outcomes(files, bars.advance)
        async with contextlib.aclosing(outcomes):
            index = 0
            async for outcome in outcomes:
                with bars.out_of_the_way():
                    if outcome.error is not None:
                        failed = True
                        _report(f"error: {_named(outcome.file, outcome.error)}")
                    else:
                        _write(outcome, form, output, style, several=len(files) > 1)
                bars.finish(index)
                index += 1
    return 1 if failed else 0


def _write(
    outcome: Outcome, form: TranscriptFormat, output: Path | None, style: SubtitleStyle, *, several: bool
) -> None:
    if form is TranscriptFormat.TEXT and not any(map(speaker_of, outcome.utterances)):
        text = running_text(outcome.utterances)
    else:
        text = render(outcome.utterances, form, file=str(outcome.file), style=style)
    if output is not None:
        (output / (outcome.file.stem + form.suffix)).write_text(text, "utf-8")
        return
    if several and form is TranscriptFormat.TEXT:
        # Speakers have lines of their own.
        text = "".join(f"{outcome.file}: {line}\n" for line in text.splitlines())
    print(text, end="", flush=True)


def _named(file: Path, error: Exception) -> str:
    message = str(error)
    return message if message.startswith(str(file)) else f"{file}: {message}"


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Speed(ProgressColumn):
    """How many seconds of audio are dealt with in a second."""

    def render(self, task: Bar) -> Text:
        return Text(f"{task.speed:.1f}×" if task.speed else "", style="cyan")


class _Bars:
    """On a terminal: a bar for each recording that is being dealt with, and one for all of them together."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
            _Speed(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        durations = list(map(_duration, files))
        self._all = self._progress.add_task(
            f"{len(files)} recordings", total=sum(durations) or None, visible=len(files) > 1
        )
        self._rows = [
            self._progress.add_task(file.name, total=duration or None, start=False, visible=False)
            for file, duration in zip(files, durations, strict=True)
        ]

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, index: int, seconds: float) -> None:
        """See `Advance`."""
        row = self._rows[index]
        if not self._progress.tasks[row].started:
            self._progress.start_task(row)
            self._progress.update(row, visible=True)
        self._progress.advance(row, seconds)
        self._progress.advance(self._all, seconds)

    def finish(self, index: int) -> None:
        """The recording's outcome has been told."""
        self._progress.update(self._rows[index], visible=False)

    @contextlib.contextmanager
    def out_of_the_way(self) -> Iterator[None]:
        """The bars may share their terminal with the lines that are printed."""
        self._progress.stop()
        yield
        self._progress.start()


def _duration(file: Path) -> float:
    try:
        return FileSource(file).duration
    except SourceError:
        return 0.0


def _since_last(advance: Callable[[float], None]) -> Callable[[float], None]:
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
