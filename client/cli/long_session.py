"""Audio over as many sessions of a server as it takes.

`AsyncClient` resumes a session whose connection breaks. This goes on when the session itself is gone: it had lasted as
long as the server allows, the server was restarted, or this machine slept. Audio is kept until its finals have come.
What has none is sent again to the next session. `client-js/src/session.js` does the same for the page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from numpy.typing import NDArray
from parastream.client.cli.duplex import run_duplex
from parastream.client.client import AsyncClient
from parastream.client.errors import ClientError, ConnectionFailedError, ServerError
from parastream.client.session import ClientEvent
from parastream.server.wire.messages import Done, Final, Partial, SpeechEnded, SpeechStarted, Tags, Word

KEPT_SECONDS = 60.0
"""Seconds of audio that a server has for certain, but that are kept for their finals: the longest utterance, and what
may wait for it.
"""
LONGEST_OUTAGE = 300.0
"""Seconds of live audio that wait for a server; the oldest is given up then."""
READ_AHEAD = 1.0
"""Seconds of a recording that are read before they can be sent."""

_OVER = ("unknown_session", "idle_timeout", "session_too_long")
"""Codes after which a new session may be had at once."""
_LATER = ("not_ready", "capacity", "shutting_down", "slow_client", "internal", "start_timeout")
"""Codes after which one may be had later."""
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0  # seconds between attempts
_MOST_FAILURES = 10
"""Sessions that may end without a final of a recording's next utterance: something is wrong with it or the server."""


class LongSession:
    """A session that does not end before its audio does. Times and numbers of utterances run on over all its parts."""

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager[AsyncClient]],
        *,
        rate: int,
        frame_bytes: int,
        on_open: Callable[[AsyncClient], None],
        on_event: Callable[[ClientEvent], None],
        note: Callable[[str], None],
        on_forget: Callable[[int], None] = lambda utterance: None,
        live: bool = True,
    ) -> None:
        """Prepare a session; `run` runs it.

        Args:
            open_client: opens another session, such as a client that has not been entered.
            rate: sampling rate in Hz.
            frame_bytes: bytes of one sample of every channel in the clients' format.
            on_open: called with each client whose session has begun.
            on_event: called with each event.
            note: called with what the user should know.
            on_forget: called with the number of an utterance whose final will not come; it comes back as another.
            live: whether the audio goes on while there is no session. Then a server that is away is asked again until
                the audio has ended. A recording is read no faster than it is sent, and `open_client` does the waiting.
        """
        self._open_client = open_client
        self._rate = rate
        self._frame_bytes = frame_bytes
        self._on_open = on_open
        self._on_event = on_event
        self._on_forget = on_forget
        self._note = note
        self._live = live
        self._audio = _Audio(most=round(LONGEST_OUTAGE * rate)) if live else _Audio(ahead=round(READ_AHEAD * rate))
        self._client: AsyncClient | None = None
        self._opened = asyncio.Event()  # once at least
        self._origin = 0  # frames before the present part
        self._settled = 0  # frames that need not be sent again
        self._heard = 0  # frame in which the last final of the present part ended
        self._open: dict[int, int] = {}  # frames in which utterances without a final began
        self._first_number = 0  # of the part's utterances
        self._next_number = 0
        self._done: dict[int, float] = {}  # when the last final of each channel ended
        self._repeated: dict[int, float] = {}  # the same, when the present part began

    @property
    def acknowledged(self) -> float:
        """Seconds of audio that a server has for certain."""
        return self._acknowledged_frames / self._rate

    async def run(self, sound: AsyncIterable[NDArray[Any]]) -> None:
        """Transcribe until the sound ends.

        Args:
            sound: samples that clients take, (n,) or (n, channels). What it raises is raised here, after what came
                before has been transcribed.

        Raises:
            ClientError: the first session cannot be opened, a server refuses for good, or it fails again and again.
        """
        reading = asyncio.create_task(self._read(sound))
        try:
            await self._hold_sessions()
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, sound: AsyncIterable[NDArray[Any]]) -> None:
        try:
            if not self._live:
                await self._opened.wait()
            blocks = aiter(sound)
            try:
                async for block in blocks:
                    await self._audio.append(block)
                    self._forget()
            finally:
                if isinstance(blocks, AsyncGenerator):
                    await blocks.aclose()
        finally:
            self._audio.end()

    async def _hold_sessions(self) -> None:
        delay = _FIRST_DELAY
        reached, failures = 0, 0
        while True:
            try:
                await self._hold_session()
                return
            except ClientError as error:
                if not self._opened.is_set() or not _is_temporary(error):
                    raise
                code = error.code if isinstance(error, ServerError) else ""
                acknowledged = 0
                if self._client is not None:
                    acknowledged = self._client.acknowledged
                    self._leave()
                    if code != "idle_timeout":
                        self._note(f"{error}; going on in a new session")
                    if self._origin > reached or code == "idle_timeout":
                        reached, failures, delay = self._origin, 0, _FIRST_DELAY
                    else:
                        failures += 1
                    if failures > _MOST_FAILURES and not self._live:
                        raise
                elif self._audio.ended or not self._live:
                    raise
            if code == "idle_timeout":
                await self._audio.wait_for_more()
            elif not (acknowledged and code in _OVER):
                await (self._audio.wait_for_end(delay) if self._live else asyncio.sleep(delay))
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _hold_session(self) -> None:
        async with self._open_client() as client:
            self._client = client
            self._opened.set()
            if self._audio.start > self._origin:
                lost = (self._audio.start - self._origin) / self._rate
                self._note(f"{lost:.1f} s of sound were lost: the server was away for too long")
                self._origin = self._heard = self._settled = self._audio.start
            self._on_open(client)
            await run_duplex(client, self._audio.blocks(self._origin), self._take)

    def _leave(self) -> None:
        """Let the next session begin behind what is in finals."""
        for number in self._open:
            self._on_forget(number)
        self._open.clear()
        self._repeated = dict(self._done)
        self._origin = self._heard = self._settled
        self._first_number = self._next_number
        self._client = None

    @property
    def _acknowledged_frames(self) -> int:
        return self._origin + (self._client.acknowledged // self._frame_bytes if self._client is not None else 0)

    def _take(self, event: ClientEvent) -> None:
        event = self._shifted(event)
        match event:
            case SpeechStarted():
                self._next_number = event.utterance + 1
                self._open[event.utterance] = round(event.time * self._rate)
            case Final():
                self._open.pop(event.utterance, None)
                self._heard = max(self._heard, min(round(event.end * self._rate), self._audio.asked))
                self._settled = max(self._settled, min([self._heard, *self._open.values()]))
                if (event.start + event.end) / 2 < self._repeated.get(event.channel, 0.0):
                    self._on_forget(event.utterance)  # the session before had it
                    return
                self._done[event.channel] = max(self._done.get(event.channel, 0.0), event.end)
        self._forget()
        self._on_event(event)

    def _forget(self) -> None:
        """Let go of audio that is in finals, and of silence that was long ago."""
        self._settled = max(self._settled, self._acknowledged_frames - round(KEPT_SECONDS * self._rate))
        self._audio.forget(self._settled)

    def _shifted(self, event: ClientEvent) -> ClientEvent:
        """Return an event of the present part with its place in the whole."""
        first, number = self._origin / self._rate, self._first_number
        if not first and not number:
            return event
        match event:
            case SpeechStarted() | SpeechEnded():
                return msgspec.structs.replace(
                    event, time=round(event.time + first, 3), utterance=event.utterance + number
                )
            case Tags():
                return msgspec.structs.replace(event, utterance=event.utterance + number)
            case Partial() | Final():
                return msgspec.structs.replace(
                    event,
                    start=round(event.start + first, 3),
                    end=round(event.end + first, 3),
                    words=tuple(_word_shifted(word, first) for word in event.words),
                    utterance=event.utterance + number,
                )
            case Done():
                return msgspec.structs.replace(event, duration=round(event.duration + first, 3))
        return event


class _Audio:
    """Sound that may have to be sent, or sent again. Positions are frames since the beginning."""

    def __init__(self, *, most: int | None = None, ahead: int | None = None) -> None:
        """Begin without any.

        Args:
            most: frames of which the oldest are given up.
            ahead: frames that may be there before they are asked for; more have to wait.
        """
        self._most = most
        self._ahead = ahead
        self._blocks: deque[tuple[int, NDArray[Any]]] = deque()
        self._room = asyncio.Event()
        self._grown = asyncio.Event()
        self.position = 0
        """Where it ends so far."""
        self.asked = 0
        """Where the part ends that has been asked for."""
        self.ended = False
        self._end = asyncio.Event()

    @property
    def start(self) -> int:
        """What lies before is not there any more."""
        return self._blocks[0][0] if self._blocks else self.position

    async def append(self, block: NDArray[Any]) -> None:
        """Add samples at the end, once there is room."""
        while self._ahead is not None and self.position >= self.asked + self._ahead:
            self._room.clear()
            await self._room.wait()
        self._blocks.append((self.position, block))
        self.position += len(block)
        while self._most is not None and self.position - self.start > self._most:
            self._blocks.popleft()
        self._grown.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self.ended = True
        self._grown.set()
        self._end.set()

    def forget(self, position: int) -> None:
        """Forget whole blocks before a position."""
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= position:
            self._blocks.popleft()

    async def blocks(self, position: int) -> AsyncIterator[NDArray[Any]]:
        """Yield the sound from a position on, as it comes."""
        while await self._reaches_beyond(position):
            for first, block in self._after(position):
                rest = block[max(0, position - first) :]
                position = self.asked = first + len(block)
                self._room.set()
                yield rest

    async def wait_for_more(self) -> None:
        """Wait until there is more than has been asked for, or the end has come."""
        await self._reaches_beyond(self.asked)

    async def _reaches_beyond(self, position: int) -> bool:
        """Wait until there is something after a position; return False when the end has come before that."""
        while self.position == position and not self.ended:
            self._grown.clear()
            await self._grown.wait()
        return self.position > position

    async def wait_for_end(self, seconds: float) -> None:
        """Wait some time, or until the end has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end.wait()

    def _after(self, position: int) -> list[tuple[int, NDArray[Any]]]:
        found: list[tuple[int, NDArray[Any]]] = []
        for first, block in reversed(self._blocks):
            if first + len(block) <= position:
                break
            found.append((first, block))
        return found[::-1]


def _word_shifted(word: Word, seconds: float) -> Word:
    return msgspec.structs.replace(word, start=round(word.start + seconds, 3), end=round(word.end + seconds, 3))


def _is_temporary(error: ClientError) -> bool:
    """Return whether another session may be had, now or later."""
    return isinstance(error, ConnectionFailedError) or (isinstance(error, ServerError) and error.code in _OVER + _LATER)
