"""The ways to transcribe recordings: with models in this process, or through a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from parastream.client.cli.composition import ModelChoice, sendable
from parastream.client.cli.duplex import new_journal
from parastream.client.cli.long_session import LongSession
from parastream.client.client import AsyncClient, connect
from parastream.client.errors import ConnectionFailedError, ServerError
from parastream.client.session import ClientEvent
from parastream.client.sources import Channel, FileSource, open_source
from parastream.media.decoding import SourceError, display_name
from parastream.model.hotwords import Hotwords
from parastream.model.profanity import Profanity
from parastream.model.replacements import Replacements
from parastream.server.transcripts.journal import Journal
from parastream.server.transcripts.labels import channel_labels
from parastream.server.transcripts.utterance import SpokenUtterance, spoken
from parastream.server.wire.messages import Final
from parastream.streaming import Encoding, Models, SessionConfig, Transcriber
from parastream.streaming import events as engine_events

_LATER = ("capacity", "not_ready", "shutting_down")
"""Codes with which a server refuses a session that it, or the one that takes its place, may take later."""
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 10.0  # seconds between attempts
_PATIENCE = 300.0
"""Seconds for which a server that has been there is waited for: time to restart it."""


class Watcher(Protocol):
    """Shows how far the work has come."""

    def advance(self, index: int, seconds: float, total: float | None) -> None:
        """Note that `seconds` more of a recording have been transcribed, of `total` if that is known."""

    def note(self, text: str) -> None:
        """Show a line about what is going on."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording."""

    index: int
    """Its place among the recordings."""
    utterances: Sequence[SpokenUtterance] | None
    """What was recognised; None if nothing was transcribed at all."""
    error: Exception | None = None
    """Why that is not all."""
    seconds: float = 0.0
    """Length of what was transcribed."""


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
            raise SourceError(f"{display_name(file)}: {error}") from error


class Backend(Protocol):
    """A way to transcribe."""

    @property
    def at_once(self) -> int:
        """Recordings that are transcribed at the same time; it is known once the backend is prepared."""
        ...

    def prepare(self) -> None:
        """Do what takes long and needs no event loop.

        Raises:
            ParastreamError: nothing can be transcribed, for example because a model cannot be loaded.
        """

    def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Yield one outcome for each file, as soon as it is known.

        What goes wrong with one file becomes its outcome.
        """
        ...

    def close(self) -> None:
        """Let go of everything; nothing can be transcribed any more."""


@dataclass
class LocalBackend:
    """Transcribes with models in this process, one recording after the other."""

    choice: ModelChoice
    final_pass: bool
    channels: ChannelChoice
    itn: bool = False
    replacements: Replacements = Replacements()
    hotwords: Hotwords = ()
    models: Models | None = None

    at_once = 1

    def prepare(self) -> None:
        """Load the models."""
        self.models = self.choice.load()

    def close(self) -> None:
        """Let go of the models."""
        self.models = None

    async def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Transcribe the files one after the other; see `Backend`."""
        assert self.models is not None
        transcriber = Transcriber(
            self.models.front,
            punctuation=self.models.punctuation,
            final=self.models.final,
            better=self.models.better,
            search=self.models.search,
            vad=self.models.vad,
            config=SessionConfig(
                partials=False,
                itn=self.itn,
                replacements=self.replacements,
                hotwords=self.hotwords,
                final_pass=self.final_pass,
                language=self.choice.language,
            ),
        )
        for index, file in enumerate(files):
            heard = _Heard(index, watcher)
            yield await heard.outcome(self._transcribe(transcriber, file, heard))

    async def _transcribe(self, transcriber: Transcriber, file: Path, heard: _Heard) -> None:
        source = await open_source(file, block=1.0, pace=0, channel=self.channels.channel)
        names = self.channels.names(file, source.channels)
        streams = [transcriber.stream(source.rate, partials=False) for _ in range(source.channels)]

        def take(channel: int, events: Sequence[engine_events.Event]) -> None:
            for event in events:
                if isinstance(event, engine_events.Final):
                    heard.utterances.append(spoken(event, channel, names))

        heard.begun = True
        damage: SourceError | None = None
        try:
            async for block in heard.watched(source):
                for channel, stream in enumerate(streams):
                    take(channel, stream.send(block if block.ndim == 1 else block[:, channel]))
        except SourceError as error:
            damage = error
        for channel, stream in enumerate(streams):
            take(channel, stream.finish())
        if damage is not None:
            raise damage


class _Door:
    """Where recordings get their sessions, in turn."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()
        """A session has ended."""
        self._known = False
        """Whether the server has ever answered."""
        self._away_since = inf

    @contextlib.asynccontextmanager
    async def entered(self, client: AsyncClient, note: Callable[[str], None]) -> AsyncIterator[AsyncClient]:
        """Open a session; wait while the server has no room for it, or is away for a while.

        Raises:
            ClientError: the server refuses for good, has never been there or is away for too long.
        """
        async with contextlib.AsyncExitStack() as stack:
            async with self._turn:
                await self._enter(client, stack, note)
            stack.callback(self._left.set)
            yield client

    async def _enter(self, client: AsyncClient, stack: contextlib.AsyncExitStack, note: Callable[[str], None]) -> None:
        clock = asyncio.get_running_loop().time
        delay = _FIRST_DELAY
        while True:
            self._left.clear()
            try:
                await stack.enter_async_context(client)
            except ServerError as error:
                if error.code not in _LATER:
                    raise
                self._known, self._away_since = True, inf
                reason = str(error)
            except ConnectionFailedError as error:
                self._away_since = min(self._away_since, clock())
                if not self._known or clock() > self._away_since + _PATIENCE:
                    raise
                reason = str(error)
            else:
                self._known, self._away_since = True, inf
                return
            if delay == _FIRST_DELAY:
                note(f"waiting for the server: {reason}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._left.wait()
            delay = min(2 * delay, _LONGEST_DELAY)


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
    at_once: int
    itn: bool = False
    replace: Sequence[str] = ()
    """Rules for replacing words."""
    profanity: Literal["", Profanity] = ""
    language: str = ""
    """What is spoken; empty where the models are to find out."""
    hotwords: Hotwords = ()
    save: Path | None = None
    """Directory in which each session is saved as it grows."""
    _door: _Door = field(default_factory=_Door, init=False)

    def prepare(self) -> None:
        """Do nothing: the server has everything."""

    def close(self) -> None:
        """Do nothing: each recording has a session of its own."""

    async def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        """Send the files, `at_once` at a time; see `Backend`."""
        turns = asyncio.Semaphore(self.at_once)
        done: asyncio.Queue[Outcome] = asyncio.Queue()

        async def in_turn(index: int, file: Path) -> None:
            async with turns:
                heard = _Heard(index, watcher)
                done.put_nowait(await heard.outcome(self._transcribe(file, heard)))

        tasks = [asyncio.create_task(in_turn(index, file)) for index, file in enumerate(files)]
        try:
            for _ in files:
                yield await done.get()
        except asyncio.CancelledError:
            while not done.empty():
                yield done.get_nowait()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _transcribe(self, file: Path, heard: _Heard) -> None:
        source = await open_source(file, pace=self.pace, channel=self.channels.channel)
        names = self.channels.names(file, source.channels)

        def new_client() -> AsyncClient:
            return connect(
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
                itn=self.itn,
                replace=self.replace,
                profanity=self.profanity,
                hotwords=sendable(self.hotwords),
                final_pass=self.final_pass,
                language=self.language,
            )

        stack = contextlib.ExitStack()
        journal: Journal | None = None

        def on_open(client: AsyncClient) -> None:
            nonlocal journal
            heard.begun = True
            if self.save is not None and journal is None:
                journal = stack.enter_context(new_journal(self.save, client, names, report=heard.watcher.note))

        def on_event(event: ClientEvent) -> None:
            if journal is not None:
                journal.add(event)
            if isinstance(event, Final):
                heard.utterances.append(spoken(event, event.channel, names))

        session = LongSession(
            lambda: self._door.entered(new_client(), heard.watcher.note),
            rate=source.rate,
            frame_bytes=Encoding(source.format).sample_bytes * source.channels,
            on_open=on_open,
            on_event=on_event,
            note=heard.watcher.note,
            live=False,
        )
        with stack:
            await session.run(heard.watched(source))


class _Heard:
    """What has been heard of a recording, whatever happens to the rest."""

    def __init__(self, index: int, watcher: Watcher) -> None:
        self.index = index
        self.watcher = watcher
        self.begun = False
        """Whether there may be something to hear."""
        self.utterances: list[SpokenUtterance] = []
        self._seconds = 0.0

    async def watched(self, source: FileSource) -> AsyncIterator[NDArray[Any]]:
        """Yield the blocks of a source, and tell the watcher."""
        async with contextlib.aclosing(source.__aiter__()) as blocks:
            async for block in blocks:
                yield block
                self._seconds += len(block) / source.rate
                self.watcher.advance(self.index, len(block) / source.rate, source.estimated_duration())

    async def outcome(self, work: Awaitable[None]) -> Outcome:
        """Await the work and return the recording's outcome, whatever goes wrong."""
        try:
            await work
        except Exception as error:  # none may stop the other recordings
            if os.environ.get("PARASTREAM_DEBUG"):
                traceback.print_exc()
            damaged = self.begun and isinstance(error, SourceError)
            return Outcome(self.index, self.utterances if damaged or self.utterances else None, error, self._seconds)
        return Outcome(self.index, self.utterances, None, self._seconds)
