"""`parastream transcribe`: recordings to transcripts, here or through a server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.client.cli.composition import ModelChoice
from parastream.client.cli.duplex import new_journal, run_duplex
from parastream.client.cli.progress import ProgressBars
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

Advance = Callable[[int, float], None]
"""Takes the index of a recording, and how many more seconds of its audio have been transcribed."""

FAILURES = (ParastreamError, ClientError, SourceError, OSError)
"""Errors that concern one recording and do not stop the others."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording."""

    file: Path
    utterances: Sequence[SpokenUtterance] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class ChannelChoice:
    """Which channels are transcribed, and who speaks on them."""

    channel: Channel
    labels: Sequence[str] = ()
    """Names by channel if all are kept apart; further channels get a number."""

    def names(self, file: Path, channels: int) -> tuple[str, ...]:
        """Return a name for each recognised channel, or none at all.

        Raises:
            SourceError: there are more names than channels.
        """
        if self.channel != "all":
            return ()
        try:
            return channel_labels(channels, self.labels)
        except ValueError as error:
            raise SourceError(f"{file}: {error}") from error


class Backend(Protocol):
    """A way to transcribe."""

    def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """Yield one outcome for each file, in order, each as soon as it and those before it are known."""
        ...


@dataclass(frozen=True)
class LocalBackend:
    """Transcribes with models in this process, one recording after the other."""

    choice: ModelChoice
    final_pass: bool
    channels: ChannelChoice

    async def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """Transcribe the files one after the other; see `Backend`.

        Raises:
            ModelError: a model cannot be loaded.
        """
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
        samples, rate = read(file, self.channels.channel)
        channels = [samples] if samples.ndim == 1 else list(np.ascontiguousarray(samples.T))
        names = self.channels.names(file, len(channels))
        utterances: list[SpokenUtterance] = []
        for channel, track in enumerate(channels):
            progress = _since_last(lambda seconds: advance(seconds / len(channels)))
            finals = transcriber.transcribe(track, rate, progress=progress).utterances
            utterances += [spoken(final, channel, names) for final in finals]
        return utterances


@dataclass(frozen=True)
class RemoteBackend:
    """Sends recordings to a server, several at a time."""

    server: str
    token: str | None
    model: str
    """Empty for the server's own model."""
    punctuate: bool
    final_pass: bool
    channels: ChannelChoice
    pace: float
    """1 is real time, 0 as fast as the server accepts."""
    jobs: int
    save: Path | None = None
    """Directory in which each session is saved as it grows."""

    async def outcomes(self, files: Sequence[Path], advance: Advance) -> AsyncGenerator[Outcome, None]:
        """Send the files, `jobs` at a time; see `Backend`."""
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
        source = FileSource(file, pace=self.pace, channel=self.channels.channel)
        names = self.channels.names(file, source.channels)

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
            channel="all" if self.channels.channel == "all" else 0,
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

                def on_event(event: ClientEvent) -> None:
                    if isinstance(event, Final):
                        utterances.append(spoken(event, event.channel, names))

                await run_duplex(client, blocks(), on_event, journal)
        return utterances


def run(
    files: Sequence[Path], backend: Backend, form: TranscriptFormat, output: Path | None, style: SubtitleStyle
) -> int:
    """Transcribe recordings, write the transcripts, and return the exit status: 1 if a recording failed.

    Raises:
        ParastreamError: nothing could be transcribed, for example because a model cannot be loaded.
        OSError: the transcripts cannot be written.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(files, backend, form, output, style))


async def _run(
    files: Sequence[Path], backend: Backend, form: TranscriptFormat, output: Path | None, style: SubtitleStyle
) -> int:
    failed = False
    with ProgressBars(files) as bars:
        outcomes = backend.outcomes(files, bars.advance)
        async with contextlib.aclosing(outcomes):
            index = 0
            async for outcome in outcomes:
                with bars.hidden():
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


def _since_last(advance: Callable[[float], None]) -> Callable[[float], None]:
    """Make a callback for totals from one for steps.

    After Ctrl-C it also ends the work, since asyncio cannot do that while its thread computes.
    """
    done = 0.0
    task = asyncio.current_task()

    def progress(seconds: float) -> None:
        nonlocal done
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        advance(seconds - done)
        done = seconds

    return progress
