"""Live audio over as many sessions of a server as it takes.

`AsyncClient` resumes a session whose connection breaks. This goes on when the session itself is gone: it had lasted as
long as the server allows, or the server was restarted. Audio is kept until its finals have come. What has none is sent
again to the next session. `client-js/src/session.js` does the same for the page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import msgspec
from numpy.typing import NDArray
from parastream.client.cli.duplex import run_duplex
from parastream.client.client import AsyncClient
from parastream.client.errors import ClientError, ConnectionFailedError, ServerError
from parastream.client.session import ClientEvent
from parastream.server.wire.messages import Done, Final, Partial, SpeechEnded, SpeechStarted, Tags, Word

KEPT_SECONDS = 60.0
"""Seconds of audio that are kept for finals to come: the longest utterance, and what may wait for it."""
LONGEST_OUTAGE = 300.0
"""Seconds of audio that wait for a server; the oldest is given up then."""

_OVER = ("unknown_session", "idle_timeout", "session_too_long")
"""Codes after which a new session may be had at once."""
_LATER = ("not_ready", "capacity", "shutting_down", "slow_client", "internal", "start_timeout")
"""Codes after which one may be had later."""
_WITHOUT_FINALS = ("unknown_session", "slow_client", "internal")
"""Codes before which finals may be missing."""
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0  # seconds between attempts


class LiveSession:
    """A session that does not end before its audio does. Times and numbers of utterances run on over all its parts."""

    def __init__(
        self,
        make_client: Callable[[], AsyncClient],
        *,
        rate: int,
        channels: int,
        on_open: Callable[[AsyncClient], None],
        on_event: Callable[[ClientEvent], None],
        on_forget: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        """Prepare a session; `run` runs it.

        Args:
            make_client: makes a client for another session, for samples in the format s16le.
            rate: sampling rate in Hz.
            channels: of the audio.
            on_open: called with each client whose session has begun.
            on_event: called with each event.
            on_forget: called with the number of an utterance whose final will not come; it comes back as another.
            note: called with what the user should know.
        """
        self._make_client = make_client
        self._rate = rate
        self._bytes_per_frame = 2 * channels
        self._on_open = on_open
        self._on_event = on_event
        self._on_forget = on_forget
        self._note = note
        self._audio = _Audio(rate)
        self._client: AsyncClient | None = None
        self._opened = False  # once at least
        self._origin = 0  # frames before the present part
        self._first_number = 0  # of the part's utterances
        self._next_number = 0
        self._open: dict[int, float] = {}  # when utterances without a final began
        self._done: dict[int, float] = {}  # where the last final of each channel ended
        self._repeated: dict[int, float] = {}  # the same, when the present part began

    @property
    def acknowledged(self) -> float:
        """Seconds of audio that a server has for certain."""
        return self._acknowledged_frames / self._rate

    async def run(self, sound: AsyncIterable[NDArray[Any]]) -> None:
        """Transcribe until the sound ends.

        Args:
            sound: int16 samples, (n,) or (n, channels).

        Raises:
            ClientError: the first session cannot be opened, or a server refuses for good.
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
            async for block in sound:
                self._audio.append(block)
        finally:
            self._audio.end()

    async def _hold_sessions(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                await self._hold_session()
                return
            except ClientError as error:
                if not self._opened or not _is_temporary(error):
                    raise
                code = error.code if isinstance(error, ServerError) else ""
                acknowledged = self._client.acknowledged if self._client is not None else 0
                if self._client is not None:
                    self._leave(finals_came=bool(code) and code not in _WITHOUT_FINALS)
                    if code != "idle_timeout":
                        self._note(f"{error}; going on in a new session")
                elif self._audio.ended:
                    raise
            if code == "idle_timeout":
                await self._audio.wait_for_more()
            elif acknowledged and code in _OVER:
                delay = _FIRST_DELAY
            else:
                await self._audio.wait_for_end(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _hold_session(self) -> None:
        client = self._make_client()
        async with client:
            self._client = client
            self._opened = True
            if self._audio.start > self._origin:
                lost = (self._audio.start - self._origin) / self._rate
                self._note(f"{lost:.1f} s of sound were lost: the server was away for too long")
                self._origin = self._audio.start
            self._on_open(client)
            await run_duplex(client, self._audio.blocks(self._origin), self._take)

    def _leave(self, *, finals_came: bool) -> None:
        """Let the next session begin behind what is in finals."""
        done = max(self._done.values(), default=0.0)
        if not finals_came:
            done = min(done, *self._open.values()) if self._open else done
        elif not self._done:
            done = self.acknowledged  # nobody has spoken
        for number in self._open:
            self._on_forget(number)
        self._open.clear()
        self._repeated = dict(self._done)
        self._origin = max(self._audio.start, round(done * self._rate))
        self._first_number = self._next_number
        self._client = None

    @property
    def _acknowledged_frames(self) -> int:
        return self._origin + (self._client.acknowledged // self._bytes_per_frame if self._client is not None else 0)

    def _take(self, event: ClientEvent) -> None:
        event = self._shifted(event)
        match event:
            case SpeechStarted():
                self._next_number = event.utterance + 1
                self._open[event.utterance] = event.time
            case Final():
                self._open.pop(event.utterance, None)
                if (event.start + event.end) / 2 < self._repeated.get(event.channel, 0.0):
                    self._on_forget(event.utterance)  # the session before had it
                    return
                self._done[event.channel] = max(self._done.get(event.channel, 0.0), event.end)
        settled = min([max(self._done.values(), default=0.0), *self._open.values()])
        long_ago = self._audio.position - round(KEPT_SECONDS * self._rate)
        self._audio.forget(max(round(settled * self._rate), min(long_ago, self._acknowledged_frames)))
        self._on_event(event)

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

    def __init__(self, rate: int) -> None:
        self._most = round(LONGEST_OUTAGE * rate)
        self._blocks: deque[tuple[int, NDArray[Any]]] = deque()
        self._grown = asyncio.Event()
        self.position = 0
        """Where it ends so far."""
        self.ended = False
        self._end = asyncio.Event()

    @property
    def start(self) -> int:
        """What lies before is not there any more."""
        return self._blocks[0][0] if self._blocks else self.position

    def append(self, block: NDArray[Any]) -> None:
        """Add samples at the end; give up the oldest if there are too many."""
        self._blocks.append((self.position, block))
        self.position += len(block)
        while self.position - self.start > self._most:
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
        while True:
            for first, block in self._after(position):
                yield block[max(0, position - first) :]
                position = first + len(block)
            if self.ended and position == self.position:
                return
            self._grown.clear()
            await self._grown.wait()

    async def wait_for_more(self) -> None:
        """Wait until there is more than now, or the end has come."""
        if not self.ended:
            self._grown.clear()
            await self._grown.wait()

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
